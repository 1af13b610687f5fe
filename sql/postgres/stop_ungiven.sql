-- Ends the rows of blocks that were given to no task and of which no row was refused. Params: 1 batch, 2 ended_as, 3 now. Returns: nothing. Locks: the new records.
insert into attempts (batch, no, task, attempt, part, at, ended_as, ended, body)
select b.batch, b.no, b.no, 0, 1, $3::timestamptz, $2::smallint, b.rows, ''
  from blocks b join batches t on t.id = b.batch
 where b.batch = $1 and b.no >= t.given and b.no < t.blocks and b.rejected = 0
