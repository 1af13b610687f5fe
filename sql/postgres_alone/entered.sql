-- Notes of a worker that enters when it was heard of, by the server's clock. Params: 1 worker, 2 incarnation. Returns: nothing. Locks: the worker's record.
update workers set beat_at = clock_timestamp(), incarnation = $2 where no = $1 and ended_at is null
