-- The ops with how many tasks are ready, counted to a thousand. Params: none. Returns: id, app, op, kind, paused, ready. Locks: none.
-- In an index's order, so that the planner does not look for the first of them in all tasks.
select o.id, o.app, o.op, o.kind, o.paused,
       least(1000, (select count(*) from (select 1 from queue q where q.op = o.id and q.state = 1 and q.what = 0
                                           order by q.age, q.batch, q.turn, q.id limit 1000) ready)
                 + (select coalesce(sum(rows), 0) from (select rows from queue q where q.op = o.id and q.state = 1 and q.what = 2
                                           order by q.age, q.batch limit 1000) ready))::bigint
  from ops o order by o.app, o.op, o.kind
