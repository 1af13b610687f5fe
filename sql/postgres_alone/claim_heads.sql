-- What a task's processor must know of its batch, and whether that is being aborted, for many batches. Params: 1 ids.
-- Returns: id, context, root, generation, expires_at, abort_at. Locks: none.
-- `offset 0`: each is looked up by its key, whatever the planner believes of how many there are.
select b.id, b.context, b.root, b.generation, b.expires_at, b.abort_at
  from unnest($1::uuid[]) asked (id)
 cross join lateral (select id, context, root, generation, expires_at, abort_at from batches where id = asked.id offset 0) b
