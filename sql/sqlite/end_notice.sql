-- Stores a notice where a receiver is registered. Params: 1 batch, 2 now. Returns: nothing. Locks: the file.
insert or fail into notices (batch, op, at, due_at) select b.id, b.op, ?2, ?2 from batches b join ops o on o.id = b.op where b.id = ?1 and o.notify = 1
