-- What a worker runs. Params: 1 worker. Returns: batch, id, no, attempt, token, what, abort_at. Locks: none.
select q.batch, q.id, q.no, q.attempt, q.token, q.what, b.abort_at from queue q join batches b on b.id = any (array[q.batch]) where q.worker = $1 and q.state = 2 and q.what <> 2
union all
-- Of those that stand together, each that has not ended. `offset 0`: each is looked up by its key.
select b.id, 0, 0, q.attempt, q.token, 0, b.abort_at
  from queue q cross join unnest(q.members) m (id)
 cross join lateral (select id, abort_at from batches where id = m.id and state = 2 offset 0) b
 where q.worker = $1 and q.state = 2 and q.what = 2
