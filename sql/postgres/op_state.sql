-- Finds an op and what holds it up. Params: 1 app, 2 op, 3 kind. Returns: id, paused, settings. Locks: none.
select id, paused, settings from ops where app = $1 and op = $2 and kind = $3
