-- What a worker runs, but for tasks that stand together. Params: 1 worker.
-- Returns: batch, id, no, what, op, priority, turn, age, rows, pick, attempt, token, failures, losses, laters, suspect, row_now, started_at. Locks: the tasks' records; those that others hold are skipped.
select batch, id, no, what, op, priority, turn, age, rows, pick, attempt, token, failures, losses, laters, suspect, row_now, started_at
  from queue where worker = $1 and state = 2 and what <> 2 for update skip locked
