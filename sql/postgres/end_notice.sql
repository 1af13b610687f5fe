-- Stores a notice where a receiver is registered. Params: 1 batch, 2 now. Returns: nothing. Locks: the new record.
insert into notices (batch, op, at, due_at)
select b.id, b.op, $2::timestamptz, $2::timestamptz from batches b join ops o on o.id = b.op where b.id = $1 and o.notify
