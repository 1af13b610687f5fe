-- The parts of one block with who made them, in order.
-- Params: 1 batch, 2 no. Returns: task, attempt, worker, started_at, at, ended_as, ended, ordinals, rest, body. Locks: none.
select task, attempt, worker, started_at, at, ended_as, ended, ordinals, rest, body from attempts
 where batch = $1 and no = $2 order by attempt, at, task, part
