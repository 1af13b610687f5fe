-- Puts a close task off: running → later. Params: 1 batch, 2 token, 3 worker, 4 due_at, 5 error. Returns: nothing; no change = fenced. Locks: the task's record.
-- `is not distinct from` keeps the planner off the index of all that the worker runs; the id is that of every close task.
update queue set state = 0, token = null, worker = null, started_at = null, due_at = $4, error = $5
 where batch = $1 and id = 9223372036854775807 and what = 1 and state is not distinct from 2 and token = $2 and worker = $3
