-- Ends a batch of one block whose rows one task ran whole: queued → success or failed.
-- Params: 1 batch, 2 state, 3 success, 4 failed, 5 started_at, 6 now. Returns: nothing; no change = it has more blocks.
-- One that may expire is seen to with its end.
-- Locks: the batch's record.
update batches set state = $2, nsuccess = $3, nfailed = $4, naborted = 0, nexpired = 0, started_at = $5, done_at = $6, expire_done = expire_done or expires_at is not null
 where id = $1 and state = 2 and blocks = 1 and given = 1 and rows = $3::bigint + $4::bigint
