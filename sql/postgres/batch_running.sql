-- When the first of a batch's running tasks began. They are the first of its tasks, so that few are passed over. Params: 1 batch. Returns: started_at. Locks: none.
-- The bound on id is true of every such task: it keeps the planner on the key's order, so that the first one is enough.
select started_at from queue where batch = $1 and id >= 0 and state in (2, 3) order by id limit 1
