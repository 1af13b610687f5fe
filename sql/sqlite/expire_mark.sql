-- Notes that a batch's waiting rows have expired. Params: 1 batch. Returns: nothing; no change = they had, or some are left. Locks: the file.
update or fail batches set expire_done = 1 where id = ?1 and state in (1, 2) and expire_done = 0
