-- The turn of a batch's block 0, by a task that was given before. Params: 1 batch. Returns: turn. Locks: none.
select turn - no from queue where batch = $1 and what = 0 limit 1
