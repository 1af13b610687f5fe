-- Adds a task.
-- Params: 1 batch, 2 id, 3 no, 4 what, 5 op, 6 state, 7 priority, 8 turn, 9 age, 10 due_at, 11 rows, 12 pick, 13 attempt, 14 failures, 15 losses, 16 laters, 17 suspect. Returns: nothing.
-- Locks: the new record.
insert into queue (batch, id, no, what, op, state, priority, turn, age, due_at, rows, pick, attempt, failures, losses, laters, suspect)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
