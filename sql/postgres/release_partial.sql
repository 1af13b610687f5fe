-- Blocks of which some rows were refused at intake.
-- `offset 0`: what was refused of each is looked up by its key.
-- Params: 1 batch, 2 from block, 3 below block. Returns: no, rows, ordinals refused. Locks: none.
select b.no, b.rows, a.ordinals from blocks b cross join lateral (select ordinals from attempts where batch = b.batch and no = b.no and ended_as = 6 offset 0) a
 where b.batch = $1 and b.no >= $2 and b.no < $3 and b.rejected > 0 and b.rejected < b.rows
