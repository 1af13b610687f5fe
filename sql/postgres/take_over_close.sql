-- Gives a close task back: running → queued. Params: 1 batch, 2 worker. Returns: nothing. Locks: the task's record.
update queue set state = 1, token = null, worker = null, started_at = null
 where batch = $1 and id = 9223372036854775807 and what = 1 and state = 2 and worker is not distinct from $2
