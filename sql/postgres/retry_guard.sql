-- What a retry must find when it becomes a batch. Params: 1 parent. Returns: its state, whether it is purged, its retries. Locks: none; the caller has locked the parent's record (`batch_lock`, `batch_share`).
select state, purged_at is not null, (select count(*) from batches where parent = $1 and state <> 0) from batches where id = $1
