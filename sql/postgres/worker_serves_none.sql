-- Forgets what an ended worker worked on. Params: 1 worker. Returns: nothing. Locks: the records of what it worked on.
delete from worker_ops where worker = $1
