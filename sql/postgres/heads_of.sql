-- A ready task of an op and a batch, unless the op is paused. Params: 1 op, 2 batch. Returns: priority, age. Locks: none.
-- `is not distinct from` keeps the planner off the partial indexes, in which it would pass over the tasks of the op's other batches.
select q.priority, q.age from queue q where q.batch = $2 and q.id >= 0 and q.op = $1 and q.state is not distinct from 1 and q.what = 0
   and exists (select 1 from ops where id = $1 and not paused) limit 1
