-- Running tasks of an op. Params: 1 op. Returns: how many. Locks: none.
select coalesce(sum(case when what = 2 then rows - success else 1 end), 0)::bigint from queue where op = $1 and state = 2 and what in (0, 2)
