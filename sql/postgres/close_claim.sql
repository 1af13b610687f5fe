-- Claims a close task: queued → running. Params: 1 batch, 2 attempt, 3 token, 4 worker, 5 now. Returns: nothing; no change = somebody else has it.
-- Locks: the task's record.
-- The id is that of every close task.
update queue set state = 2, attempt = $2, token = $3, worker = $4, started_at = $5, due_at = null
 where batch = $1 and id = 9223372036854775807 and what = 1 and state is not distinct from 1
