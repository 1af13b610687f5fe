-- Counts the running tasks of each op and their rows: so many as workers have claimed. Params: none. Returns: op, tasks, rows. Locks: none.
select op, count(*), sum(rows)::bigint from queue where state = 2 and what = 0 group by op
