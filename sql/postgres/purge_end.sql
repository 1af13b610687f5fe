-- Leaves a tombstone where nothing else of a batch is left: being purged → purged. Params: 1 batch. Returns: nothing; no change = it was not being purged.
-- Locks: the batch's record.
update batches set purging = false, context = 'null', columns = null where id = $1 and purging
