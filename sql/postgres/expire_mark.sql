-- Notes that a batch's waiting rows have expired. Params: 1 batch. Returns: nothing; no change = they had. Locks: the batch's record.
update batches set expire_done = true where id = $1 and state in (1, 2) and not expire_done
