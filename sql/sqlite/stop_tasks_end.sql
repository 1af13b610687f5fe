-- Removes tasks that are not running. Params: 1 batch. Returns: nothing. Locks: the file.
delete from queue where batch = ?1 and what = 0 and state in (0, 1)
