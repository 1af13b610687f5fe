-- Makes the tasks of blocks whose rows all run.
-- Params: 1 batch, 2 from block, 3 below block, 4 op, 5 state, 6 priority, 7 turn of block 0, 8 age, 9 due_at. Returns: nothing.
-- Locks: the new records.
insert into queue (batch, id, no, what, op, state, priority, turn, age, due_at, rows)
select batch, no, no, 0, $4::bigint, $5::smallint, $6::integer, $7::bigint + no, $8::timestamptz, $9::timestamptz, rows
  from blocks where batch = $1 and no >= $2 and no < $3 and rejected = 0
