-- The next tasks of an op and a batch, in its order. Params: 1 op, 2 limit, 3 batch.
-- Returns: batch, id, no, rows, pick, attempt, failures, laters, suspect, turn, age, priority, losses. Locks: none.
-- A batch's tasks have one age, its own: in the index of the oldest they stand together.
select batch, id, no, rows, pick, attempt, failures, laters, suspect, turn, age, priority, losses from queue
 where op = ?1 and state = 1 and what = 0 and age = (select created_at from batches where id = ?3) and batch = ?3
 order by age, batch, turn, id limit ?2
