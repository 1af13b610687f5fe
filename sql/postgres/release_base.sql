-- The turn of a batch's block 0, by a task that was given before. Params: 1 batch. Returns: turn. Locks: none.
-- The bound on id is true of every such task: it keeps the planner on the key's order, so that the first one is enough.
select turn - no from queue where batch = $1 and id < 9223372036854775807 and what = 0 limit 1
