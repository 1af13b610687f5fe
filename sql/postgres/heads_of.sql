-- The best ready task of an op and a batch, unless the op is paused. Params: 1 op, 2 batch. Returns: priority, age, whether some stand together. Locks: none.
-- A batch's tasks have one age, its own: in the index of the oldest they stand together.
(select q.priority, q.age, false from queue q
  where q.op = $1 and q.state = 1 and q.what = 0 and q.age = (select created_at from batches where id = $2) and q.batch = $2
    and exists (select 1 from ops where id = $1 and not paused)
  order by q.age, q.batch, q.turn, q.id limit 1)
union all
-- Those that stand together. `offset 0`: their record is looked up by its key.
select q.priority, q.age, true from batches b cross join lateral (select op, state, priority, age from queue where batch = b.bundle and id = 9223372036854775806 offset 0) q
 where b.id = $2 and q.op = $1 and q.state = 1 and exists (select 1 from ops where id = $1 and not paused)
limit 1
