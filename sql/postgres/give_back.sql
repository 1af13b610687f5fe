-- Gives a task back that was not begun: running → queued. Params: 1 batch, 2 id, 3 token, 4 worker. Returns: nothing; no change = fenced.
-- Locks: the task's record.
-- `is not distinct from` keeps the planner off the index of all that the worker runs.
update queue set state = 1, token = null, worker = null, started_at = null, row_now = null
 where batch = $1 and id = $2 and state is not distinct from 2 and token = $3 and worker = $4
