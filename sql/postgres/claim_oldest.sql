-- The next tasks of an op, the oldest batch's first. Params: 1 op, 2 limit.
-- Returns: batch, id, no, rows, pick, attempt, failures, laters, suspect, turn, age, priority, losses. Locks: the tasks' records; those that others hold are skipped.
select batch, id, no, rows, pick, attempt, failures, laters, suspect, turn, age, priority, losses from queue
 where op = $1 and state = 1 and what = 0 order by age, batch, turn, id limit $2::bigint for update skip locked
