-- Removes a load's record. Params: 1 batch, 2 load token. Returns: nothing; no change = fenced. Locks: the file.
delete from batches where id = ?1 and state = 0 and load_token = ?2
