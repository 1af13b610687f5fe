-- Makes a load a batch: loading → wait or queued.
-- Params: 1 batch, 2 load token, 3 state, 4 hash, 5 now, 6 columns. Returns: nothing; no change = fenced.
-- Locks: the batch's record.
update batches set state = $3, hash = $4, created_at = $5, columns = $6, first_blocks = blocks, load_token = null, loaded_at = null
 where id = $1 and state = 0 and load_token = $2
