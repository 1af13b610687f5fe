-- Removes the last blocks of a load or an append.
-- Params: 1 batch, 2 how many, 3 its first block (it does not count yet, checked by the caller). Returns: nothing. Locks: the file.
delete from blocks where batch = ?1 and no >= max(?3, (select coalesce(max(no), 0) + 1 - ?2 from blocks where batch = ?1))
