-- The next tasks of an op and a batch, in its order. Params: 1 op, 2 limit, 3 batch.
-- Returns: batch, id, no, rows, pick, attempt, failures, laters, suspect, turn, age, priority, losses. Locks: the tasks' records; those that others hold are skipped.
-- `is not distinct from` keeps the planner off the partial indexes, in which it would pass over the tasks of the op's other batches.
select batch, id, no, rows, pick, attempt, failures, laters, suspect, turn, age, priority, losses from queue
 where batch = $3 and op = $1 and state is not distinct from 1 and what = 0 order by turn, id limit $2::bigint for update skip locked
