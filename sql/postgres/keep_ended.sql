-- Batches whose close task waits and that have no task of rows left. Params: none. Returns: batch. Locks: none.
select q.batch from queue q where q.what = 1 and q.state = 4 and not exists (select 1 from queue r where r.batch = any (array[q.batch]) and r.what = 0) limit 100
