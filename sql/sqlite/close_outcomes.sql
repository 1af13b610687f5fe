-- Outcomes of some blocks, in order. Params: 1 batch, 2 from block, 3 below block.
-- Returns: no, rows, ordinals, body, attempt, at, ended_as, ended, rest. Locks: none.
select a.no, b.rows, a.ordinals, a.body, a.attempt, a.at, a.ended_as, a.ended, a.rest
  from attempts a join blocks b on b.batch = a.batch and b.no = a.no
 where a.batch = ?1 and a.no >= ?2 and a.no < ?3 and a.no < (select blocks from batches where id = ?1) order by a.no, a.attempt, a.task, a.part
