-- What a task's processor must know of its batch. Params: 1 batch.
-- Returns: context, root, generation, expires_at, app, op, kind. Locks: none.
select b.context, b.root, b.generation, b.expires_at, o.app, o.op, o.kind from batches b join ops o on o.id = b.op where b.id = $1
