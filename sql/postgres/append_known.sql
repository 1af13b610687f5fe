-- The append that was made under a key. Params: 1 batch, 2 key. Returns: hash, rows, first_line, last_line. Locks: none.
select hash, rows, first_line, last_line from appends where batch = $1 and key = $2 and hash is not null
