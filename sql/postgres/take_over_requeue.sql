-- Gives a lost task back: running → queued.
-- Params: 1 batch, 2 id, 3 token, 4 worker, 5 rows, 6 pick, 7 losses, 8 suspect. Returns: nothing; no change = fenced. Locks: the task's record.
-- `is not distinct from` keeps the planner off the index of all that the worker runs.
update queue set state = 1, token = null, worker = null, started_at = null, row_now = null, rows = $5, pick = $6, losses = $7, suspect = $8
 where batch = $1 and id = $2 and state is not distinct from 2 and token = $3 and worker = $4
