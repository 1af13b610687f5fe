-- Gives a worker's notices back. Params: 1 worker. Returns: nothing. Locks: the notices' records.
update notices set worker = null, token = null where worker = $1
