-- Counts an op's queued tasks and their rows, up to a bound. Params: 1 op, 2 most. Returns: tasks, rows. Locks: none.
-- In an index's order, so that the planner does not look for the first of them in all tasks.
select least(coalesce(sum(tasks), 0), $2::bigint)::bigint, coalesce(sum(rows), 0)::bigint
  from ((select 1 as tasks, rows from queue where op = $1 and state = 1 and what = 0 order by age, batch, turn, id limit $2::bigint)
        union all
        (select rows, rows from queue where op = $1 and state = 1 and what = 2 order by age, batch limit $2::bigint)) queued
