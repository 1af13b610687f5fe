-- What a task's processor must know of its batch, and whether that is being aborted. Params: 1 batch.
-- Returns: context, root, generation, expires_at, app, op, kind, id, abort_at. Locks: none.
select b.context, b.root, b.generation, b.expires_at, o.app, o.op, o.kind, b.id, b.abort_at from batches b join ops o on o.id = b.op where b.id = $1
