-- What a worker works on. Params: 1 worker. Returns: app, op, kind, the batch that it works on alone. Locks: none.
select o.app, o.op, o.kind, s.batch from worker_ops s join ops o on o.id = s.op where s.worker = $1 order by o.app, o.op, o.kind
