-- The best ready task of an op, unless it is paused. Params: 1 op. Returns: priority, age, whether some stand together. Locks: none.
select h.priority, h.age, exists (select 1 from queue where op = $1 and state = 1 and what = 2)
  from ((select q.priority, q.turn, q.batch, q.age from queue q where q.op = $1 and q.state = 1 and q.what = 0
          order by q.priority desc, q.turn, q.batch, q.id limit 1)
        union all
        (select q.priority, q.turn, q.batch, q.age from queue q where q.op = $1 and q.state = 1 and q.what = 2
          order by q.priority desc, q.turn, q.batch limit 1)) h
 where exists (select 1 from ops where id = $1 and not paused)
 order by h.priority desc, h.turn, h.batch limit 1
