-- The next blocks of a batch. Params: 1 batch, 2 from block, 3 how many. Returns: no, first_line, rows, lines. Locks: none.
select k.no, k.first_line, k.rows, k.lines from blocks k join batches b on b.id = k.batch and b.state <> 0 and k.no < b.blocks
 where k.batch = $1 and k.no >= $2 order by k.no limit $3::bigint
