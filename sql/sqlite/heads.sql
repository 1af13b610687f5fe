-- The best ready task of an op, unless it is paused. Params: 1 op. Returns: priority, age, whether some stand together. Locks: none.
select q.priority, q.age, 0 from queue q where q.op = ?1 and q.state = 1 and q.what = 0
   and exists (select 1 from ops where id = ?1 and paused = 0)
 order by q.priority desc, q.turn, q.batch, q.id limit 1
