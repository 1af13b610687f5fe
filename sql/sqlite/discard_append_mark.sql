-- Takes an append from its loader and makes it one to be removed. Params: 1 batch, 2 token, 3 another token. Returns: nothing; no change = fenced.
-- Locks: the file.
update or fail appends set token = ?3, at = 0 where batch = ?1 and token = ?2
