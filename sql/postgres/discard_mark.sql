-- Takes a load from its loader and makes it one to be removed. Params: 1 batch, 2 load token, 3 another token. Returns: nothing; no change = fenced.
-- Locks: the batch's record.
update batches set load_token = $3, loaded_at = to_timestamp(0) where id = $1 and state = 0 and load_token = $2
