-- Leaves a tombstone where nothing else of a batch is left: being purged → purged. Params: 1 batch. Returns: nothing; no change = it was not being purged.
-- Locks: the file.
update or fail batches set purging = 0, context = 'null', columns = null where id = ?1 and purging = 1
