-- Removes the last blocks of a load. Params: 1 batch (loading, checked by the caller), 2 how many. Returns: nothing. Locks: the file.
delete from blocks where batch = ?1 and no >= (select coalesce(max(no), 0) + 1 - ?2 from blocks where batch = ?1)
