-- Claims a task: queued → running. Whether each row may start only once is this claim's to say.
-- Params: 1 batch, 2 id, 3 attempt, 4 token, 5 worker, 6 now, 7 rows, 8 pick, 9 suspect at least. Returns: nothing; no change = somebody else has it.
-- Locks: the task's record.
-- `is not distinct from` keeps the planner off the partial indexes.
update queue set state = 2, attempt = $3, token = $4, worker = $5, started_at = $6, rows = $7, pick = $8, row_now = null,
       suspect = greatest(least(suspect, 1), $9::smallint)
 where batch = $1 and id = $2 and state is not distinct from 1
