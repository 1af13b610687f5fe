-- Removes an append's record when no block of it is left. Params: 1 batch, 2 token. Returns: nothing; no change = blocks are left. Locks: the append's record.
delete from appends where batch = $1 and token = $2 and not exists (select 1 from blocks b where b.batch = $1 and b.no >= appends.first_no)
