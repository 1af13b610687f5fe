-- Marks a batch as aborting: wait or queued → queued. Params: 1 batch, 2 now, 3 by. Returns: nothing; no change = it was marked or has ended. Locks: the batch's record.
update batches set abort_at = $2, aborted_by = $3, state = 2 where id = $1 and state in (1, 2) and abort_at is null
