-- Ends a batch: wait or queued → success, failed, aborted or expired.
-- Params: 1 batch, 2 state, 3 success, 4 failed, 5 aborted, 6 expired, 7 started_at, 8 now. Returns: nothing; no change = it had ended.
-- One that may expire is seen to with its end.
-- Locks: the file.
update or fail batches set state = ?2, nsuccess = ?3, nfailed = ?4, naborted = ?5, nexpired = ?6, started_at = ?7, done_at = ?8, expire_done = expire_done or expires_at is not null
 where id = ?1 and state in (1, 2) and given = blocks
