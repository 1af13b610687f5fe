-- The bundle that holds a batch's task. Params: 1 batch. Returns: bundle. Locks: the bundle's record; who holds it is waited for.
select q.batch from batches b join queue q on q.batch = b.bundle and q.id = 9223372036854775806 where b.id = $1 and b.state = 2 for update of q
