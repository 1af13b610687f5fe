-- One batch as it is seen; a load is not. Params: 1 id, 2 a state: only one that is beyond it is seen.
-- Returns: app, op, kind, state, context, priority, root, parent, generation, external_id, created_by, created_at, run_at, expires_at, started_at, done_at, abort_at, rows, nsuccess, nfailed, naborted, nexpired, columns, purged_at. Locks: none.
select o.app, o.op, o.kind, b.state, b.context, b.priority, b.root, b.parent, b.generation, b.external_id, b.created_by, b.created_at, b.run_at, b.expires_at,
       b.started_at, b.done_at, b.abort_at, b.rows, b.nsuccess, b.nfailed, b.naborted, b.nexpired, b.columns, b.purged_at
  from batches b join ops o on o.id = b.op where b.id = $1 and b.state > $2::smallint
