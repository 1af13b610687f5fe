-- Removes what a load wrote for rejected rows, with its last blocks. Params: 1 batch (loading, checked by the caller), 2 how many blocks. Returns: nothing. Locks: the file.
delete from attempts where batch = ?1 and no >= (select coalesce(max(no), 0) + 1 - ?2 from blocks where batch = ?1)
