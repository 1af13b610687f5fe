-- The block that holds the first row after a line, and the one behind it.
-- Params: 1 batch, 2 line. Returns: no, first_line, rows, lines, body. Locks: none.
select k.no, k.first_line, k.rows, k.lines, k.body from blocks k join batches b on b.id = k.batch and b.state <> 0 and k.no < b.blocks
 where k.batch = $1
   and k.no >= coalesce((select no from blocks where batch = $1 and no > 0 and no < (select blocks from batches where id = $1)
                            and first_line <= least($2::bigint, 2147483646) + 1 order by first_line desc limit 1), 0)
 order by k.no limit 2
