-- Inserts the outcomes of a block's rows that were refused at intake, as attempt 0.
-- Params: 1 batch, 2 no, 3 now, 4 failed, 5 ordinals, 6 body. Returns: nothing.
-- Locks: the new record.
insert into attempts (batch, no, task, attempt, part, at, ended_as, failed, ordinals, body)
values ($1, $2::integer, $2::integer, 0, 0, $3, 6, $4, $5, $6)
