-- Gives a close task back: running → queued. Params: 1 batch, 2 worker. Returns: nothing. Locks: the task's record.
-- `is not distinct from` keeps the planner off the index of all that the worker runs; the id is that of every close task.
update queue set state = 1, token = null, worker = null, started_at = null
 where batch = $1 and id = 9223372036854775807 and what = 1 and state is not distinct from 2 and worker = $2
