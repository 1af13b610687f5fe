-- Registers a worker whose lock is held. Params: 1 lock, 2 host, 3 pid, 4 version, 5 now. Returns: no. Locks: the new record.
insert into workers (lock, host, pid, version, started_at, beat_at) values ($1, $2, $3, $4, $5, $5) returning no
