-- Ends a worker, whatever it holds: alive → ended. Params: 1 no, 2 now. Returns: nothing; no change = it had ended. Locks: the worker's record.
update workers set ended_at = $2 where no = $1 and ended_at is null
