-- The number of an attempt's next part. Params: 1 batch, 2 no, 3 task, 4 attempt. Returns: part. Locks: none.
select coalesce(max(part) + 1, 0) from attempts where batch = $1 and no = $2 and task = $3 and attempt = $4
