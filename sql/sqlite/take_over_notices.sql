-- Gives a worker's notices back. Params: 1 worker. Returns: nothing. Locks: the file.
update or fail notices set worker = null, token = null where worker = ?1
