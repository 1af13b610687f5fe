-- Releases a held batch: wait → queued. Params: 1 batch. Returns: nothing; no change = it was not held. Locks: the batch's record.
update batches set state = 2 where id = $1 and state = 1
