-- Counts the running tasks of each op and their rows: so many as workers have claimed. Params: none. Returns: op, tasks, rows. Locks: none.
select op, sum(case when what = 2 then rows - success else 1 end)::bigint, sum(case when what = 2 then rows - success else rows end)::bigint
  from queue where state = 2 and what in (0, 2) group by op
