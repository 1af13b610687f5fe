-- Ends a worker, whatever it holds: alive → ended. Params: 1 no, 2 now. Returns: nothing; no change = it had ended.
-- Locks: the worker's record, whole: whoever writes as this worker is waited for, which an update alone would not do.
with alive as materialized (select no from workers where no = $1 and ended_at is null for update)
update workers w set ended_at = $2 from alive where w.no = alive.no
