-- Ends a worker that holds nothing: alive → ended. Params: 1 no, 2 now. Returns: nothing; no change = it had ended, or it holds something.
-- Locks: the worker's record.
update workers set ended_at = $2 where no = $1 and ended_at is null
   and not exists (select 1 from queue where worker = $1 and state = 2) and not exists (select 1 from notices where worker = $1)
