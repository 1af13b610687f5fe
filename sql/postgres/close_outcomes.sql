-- Outcomes of some blocks, in order. Params: 1 batch, 2 from block, 3 below block.
-- Returns: no, rows, ordinals, body, attempt, at, ended_as, ended, rest. Locks: none.
-- `offset 0`: a block is looked up by its key for each part, whatever the planner believes of how many there are.
select a.no, b.rows, a.ordinals, a.body, a.attempt, a.at, a.ended_as, a.ended, a.rest
  from attempts a cross join lateral (select k.rows from blocks k where k.batch = a.batch and k.no = a.no offset 0) b
 where a.batch = $1 and a.no >= $2 and a.no < $3 and a.no < (select blocks from batches where id = $1) order by a.no, a.attempt, a.task, a.part
