-- Reads an op. Params: 1 id. Returns: app, op, kind, paused, notify. Locks: none.
select app, op, kind, paused, notify from ops where id = $1
