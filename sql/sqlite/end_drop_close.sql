-- Ends a close task that has nothing to do: waiting → ended. Params: 1 batch. Returns: nothing. Locks: the file.
delete from queue where batch = ?1 and what = 1 and state = 4
