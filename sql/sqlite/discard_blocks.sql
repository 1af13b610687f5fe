-- Removes a load's blocks. Params: 1 batch (loading, checked by the caller). Returns: nothing. Locks: the file.
delete from blocks where batch = ?1
