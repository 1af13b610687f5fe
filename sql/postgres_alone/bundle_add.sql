-- Adds the tasks of batches of one row, as one record: nothing → queued.
-- Params: 1 bundle, 2 op, 3 priority, 4 turn, 5 age, 6 how many, 7 batches. Returns: nothing. Locks: the new record.
insert into queue (batch, id, no, what, op, state, priority, turn, age, rows, members)
values ($1, 9223372036854775806, -1, 2, $2, 1, $3, $4, $5, $6, $7::uuid[])
