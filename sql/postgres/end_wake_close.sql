-- Makes a close task claimable: waiting → queued. Params: 1 batch. Returns: nothing; no change = it is, or there is none.
-- Locks: the task's record.
-- The id is that of every close task.
update queue set state = 1 where batch = $1 and id = 9223372036854775807 and what = 1 and state = 4
