-- The parts of one block, in order. Params: 1 batch, 2 no. Returns: ordinals, body, attempt, at, ended_as, ended, rest. Locks: none.
select ordinals, body, attempt, at, ended_as, ended, rest from attempts where batch = $1 and no = $2 order by attempt, task, part
