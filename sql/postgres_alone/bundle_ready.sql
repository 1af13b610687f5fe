-- The next bundles of an op, in its order, up to the next task that stands alone. Params: 1 op, 2 limit, 3 also behind that. Returns: bundle, tasks.
-- Locks: the bundles' records, and that task's; those that others hold are skipped.
with alone as materialized (
    select priority, turn, batch from queue where op = $1 and state = 1 and what = 0 and not $3::boolean order by priority desc, turn, batch, id limit 1 for update skip locked),
next as materialized (
    select batch, rows, priority, turn from queue where op = $1 and state = 1 and what = 2 order by priority desc, turn, batch limit $2::bigint for update skip locked)
select n.batch, n.rows from next n
 where not exists (select 1 from alone a where a.priority > n.priority or (a.priority = n.priority and (a.turn, a.batch) < (n.turn, n.batch)))
 order by n.priority desc, n.turn, n.batch
