-- Forgets a tombstone: purged → nothing. Params: 1 batch. Returns: nothing; no change = it is none. Locks: the batch's record.
delete from batches where id = $1 and purged_at is not null and not purging
