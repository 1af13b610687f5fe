-- Finds an op. Params: 1 app, 2 op, 3 kind. Returns: id. Locks: none.
select id from ops where app = $1 and op = $2 and kind = $3
