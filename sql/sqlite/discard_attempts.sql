-- Removes what a load wrote for rejected rows. Params: 1 batch (loading, checked by the caller). Returns: nothing. Locks: the file.
delete from attempts where batch = ?1
