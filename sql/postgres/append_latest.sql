-- The latest append to a batch. Params: 1 batch. Returns: hash, rows, first_line, last_line. Locks: none.
select hash, rows, first_line, last_line from appends where batch = $1 and hash is not null order by first_no desc limit 1
