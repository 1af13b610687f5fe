-- Lists the ops. Params: none. Returns: id, app, op, kind, paused. Locks: none.
select id, app, op, kind, paused from ops order by app, op, kind
