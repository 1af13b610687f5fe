-- Takes an append from its loader and makes it one to be removed. Params: 1 batch, 2 token, 3 another token. Returns: nothing; no change = fenced.
-- Locks: the append's record.
update appends set token = $3, at = to_timestamp(0) where batch = $1 and token = $2
