-- Ends a close task that has nothing to do: waiting → ended. Params: 1 batch. Returns: nothing. Locks: the task's record.
-- The id is that of every close task.
delete from queue where batch = $1 and id = 9223372036854775807 and what = 1 and state = 4
