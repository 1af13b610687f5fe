-- The append that is being loaded. Params: 1 batch. Returns: token, at, first_no, after_line, first_line, last_line, rows, bytes, blocks. Locks: none.
select token, at, first_no, after_line, first_line, last_line, rows, bytes, blocks from appends where batch = $1 and token is not null
