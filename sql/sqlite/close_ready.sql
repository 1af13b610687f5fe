-- Close tasks that are claimable. Params: 1 limit. Returns: batch, attempt. Locks: none.
select batch, attempt from queue where what = 1 and state = 1 limit ?1
