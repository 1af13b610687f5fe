-- Counts an op's queued tasks and their rows, up to a bound. Params: 1 op, 2 most. Returns: tasks, rows. Locks: none.
-- In an index's order, so that the planner does not look for the first of them in all tasks.
select count(*), coalesce(sum(rows), 0)::bigint from (select rows from queue where op = $1 and state = 1 and what = 0 order by age, batch, turn, id limit $2::bigint) queued
