-- The next bundles of an op, in its order, up to the next task that stands alone. Params: 1 op, 2 limit. Returns: bundle, tasks.
-- Locks: the bundles' records; those that others hold are skipped.
with alone as materialized (select priority, turn, batch from queue where op = $1 and state = 1 and what = 0 order by priority desc, turn, batch, id limit 1)
select q.batch, q.rows from queue q
 where q.op = $1 and q.state = 1 and q.what = 2
   and not exists (select 1 from alone a where a.priority > q.priority or (a.priority = q.priority and (a.turn, a.batch) < (q.turn, q.batch)))
 order by q.priority desc, q.turn, q.batch limit $2::bigint for update of q skip locked
