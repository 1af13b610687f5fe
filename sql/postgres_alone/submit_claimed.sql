-- Adds the one task of a batch, claimed by a worker that has a free slot: nothing → running. Whether its row may start only once is this claim's to say.
-- Params: 1 batch, 2 op, 3 priority, 4 turn, 5 age, 6 rows, 7 token, 8 worker, 9 now, 10 suspect. Returns: nothing.
-- Locks: the new record.
insert into queue (batch, id, no, what, op, state, priority, turn, age, rows, attempt, token, worker, started_at, suspect)
values ($1, 0, 0, 0, $2, 2, $3, $4, $5, $6, 1, $7, $8, $9, $10)
