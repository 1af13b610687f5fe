-- What a retry must find when it becomes a batch. Params: 1 parent. Returns: its state, whether it is purged, its retries. Locks: none; the caller's transaction is the only writer.
select state, purged_at is not null, (select count(*) from batches where parent = ?1 and state <> 0) from batches where id = ?1
