-- Whether a task that is given back has begun: something was recorded of this attempt. Params: 1 batch, 2 id, 3 token, 4 worker. Returns: 1. Locks: none.
-- `is not distinct from` keeps the planner off the index of all that the worker runs.
-- Counts the parts rather than asks for one, which it would do from a table of all.
select 1 from queue q where q.batch = $1 and q.id = $2 and q.what = 0 and q.state is not distinct from 2 and q.token = $3 and q.worker = $4
   and (q.row_now is not null
        or (select count(*) from attempts a where a.batch = q.batch and a.no = q.no and a.task = q.id and a.attempt = q.attempt) > 0)
