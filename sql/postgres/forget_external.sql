-- Forgets the external id of a tombstone. Params: 1 batch. Returns: nothing. Locks: the id's record.
delete from external_ids where (app, external_id) in (select o.app, b.external_id from batches b join ops o on o.id = b.op where b.id = $1 and b.purged_at is not null)
   and batch = $1
