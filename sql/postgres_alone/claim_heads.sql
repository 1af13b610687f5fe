-- As `claim_batch`, for many batches. Params: 1 ids. Returns: context, root, generation, expires_at, app, op, kind, id, abort_at. Locks: none.
-- `offset 0`: each is looked up by its key, whatever the planner believes of how many there are.
select b.context, b.root, b.generation, b.expires_at, o.app, o.op, o.kind, b.id, b.abort_at
  from unnest($1::uuid[]) asked (id) cross join lateral (select * from batches where id = asked.id offset 0) b join ops o on o.id = b.op
