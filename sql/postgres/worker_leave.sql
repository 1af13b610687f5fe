-- Ends a worker that holds nothing: alive → ended. Params: 1 no, 2 now. Returns: nothing; no change = it had ended, or it holds something.
-- Locks: the worker's record, whole: whoever writes as this worker is waited for, which an update alone would not do.
with alive as materialized (select no from workers where no = $1 and ended_at is null for update)
update workers w set ended_at = $2 from alive where w.no = alive.no
   and not exists (select 1 from queue where worker = $1 and state = 2) and not exists (select 1 from notices where worker = $1)
