-- Close tasks that are claimable. Params: 1 limit. Returns: batch, attempt. Locks: the tasks' records; those that others hold are skipped.
select batch, attempt from queue where what = 1 and state = 1 limit $1::bigint for update skip locked
