-- Adds to a batch's progress, on its close task. Params: 1 batch, 2 success, 3 failed. Returns: nothing. Locks: the task's record.
update queue set success = success + $2::bigint, failed = failed + $3::bigint where batch = $1 and id = 9223372036854775807
