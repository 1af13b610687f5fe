-- Forgets a tombstone: purged → nothing. Params: 1 batch. Returns: nothing; no change = it is none. Locks: the file.
delete from batches where id = ?1 and purged_at is not null and purging = 0
