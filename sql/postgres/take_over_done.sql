-- The rows of an attempt that have a final outcome. Params: 1 batch, 2 no, 3 task, 4 attempt. Returns: ordinals, body. Locks: none.
select ordinals, body from attempts where batch = $1 and no = $2 and task = $3 and attempt = $4 and body <> ''
