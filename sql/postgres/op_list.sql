-- Lists the ops. Params: none. Returns: id, app, op, kind, paused, settings. Locks: none.
select id, app, op, kind, paused, settings from ops order by app, op, kind
