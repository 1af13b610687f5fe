-- The next bundles of an op, the oldest first, up to the oldest task that stands alone. Params: 1 op, 2 limit, 3 also behind that. Returns: bundle, tasks.
-- Locks: the bundles' records, and that task's; those that others hold are skipped.
with alone as materialized (
    select age, batch from queue where op = $1 and state = 1 and what = 0 and not $3::boolean order by age, batch, turn, id limit 1 for update skip locked),
next as materialized (
    select batch, rows, age from queue where op = $1 and state = 1 and what = 2 order by age, batch limit $2::bigint for update skip locked)
select n.batch, n.rows from next n where not exists (select 1 from alone a where (a.age, a.batch) < (n.age, n.batch)) order by n.age, n.batch
