-- Batches whose rows are being removed, or were when a purge was cut off. Params: 1 limit.
-- Returns: id, app, op, kind, rows, bytes with those of its output files, output files. Locks: none.
select b.id, o.app, o.op, o.kind, b.rows,
       b.bytes + (select coalesce(sum(f.size), 0)::bigint from files f where f.batch = b.id), (select count(*) from files f where f.batch = b.id)
  from batches b join ops o on o.id = b.op where b.purging order by b.id limit $1::bigint
