-- Blocks of which some rows were refused at intake.
-- Params: 1 batch, 2 from block, 3 below block. Returns: no, rows, ordinals refused. Locks: none.
select b.no, b.rows, a.ordinals from blocks b join attempts a on a.batch = b.batch and a.no = b.no and a.ended_as = 6
 where b.batch = $1 and b.no >= $2 and b.no < $3 and b.rejected > 0 and b.rejected < b.rows
