-- Notes the row that is about to start and the rows that are left. Params: 1 batch, 2 id, 3 token, 4 worker, 5 row_now, 6 rows, 7 pick. Returns: nothing; no change = fenced.
-- Locks: the task's record.
-- `is not distinct from` keeps the planner off the index of all that the worker runs.
update queue set row_now = $5, rows = $6, pick = $7 where batch = $1 and id = $2 and state is not distinct from 2 and token = $3 and worker = $4
