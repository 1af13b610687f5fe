-- When the next notice is due that is not due yet, an op after the other: none is passed over one by one. Params: 1 now. Returns: due_at. Locks: none.
select min((select n.due_at from notices n where n.op = o.id and n.worker is null and n.due_at > $1 order by n.due_at limit 1)) from ops o
