-- Removes what a load or an append wrote for rejected rows, with its last blocks.
-- Params: 1 batch, 2 how many blocks, 3 its first block (it does not count yet, checked by the caller). Returns: nothing. Locks: the records of the attempts.
delete from attempts where batch = $1 and no >= greatest($3::integer, (select coalesce(max(no), 0) + 1 - $2::integer from blocks where batch = $1))
