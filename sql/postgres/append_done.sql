-- Notes that an append counts. Params: 1 batch, 2 token, 3 hash, 4 now. Returns: nothing; no change = fenced. Locks: the append's record.
update appends set hash = $3, token = null, at = $4 where batch = $1 and token = $2
