-- Running tasks of an op. Params: 1 op. Returns: how many. Locks: none.
select count(*) from queue where op = $1 and state = 2 and what = 0
