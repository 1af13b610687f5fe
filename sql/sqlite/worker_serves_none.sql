-- Forgets what an ended worker worked on. Params: 1 worker. Returns: nothing. Locks: the file.
delete from worker_ops where worker = ?1
