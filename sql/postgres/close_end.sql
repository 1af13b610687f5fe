-- Ends a close task: running → ended. Params: 1 batch, 2 token, 3 worker. Returns: nothing; no change = fenced. Locks: the task's record.
-- `is not distinct from` keeps the planner off the index of all that the worker runs; the id is that of every close task.
delete from queue where batch = $1 and id = 9223372036854775807 and what = 1 and state is not distinct from 2 and token = $2 and worker = $3
