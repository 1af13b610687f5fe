-- The bundles that hold these batches' tasks. Params: 1 batches. Returns: bundle. Locks: their records, in the order of their keys; who holds one is waited for.
select q.batch from queue q
 where q.id = 9223372036854775806 and q.batch = any (array(select bundle from batches where id = any ($1::uuid[]) and state = 2 and bundle is not null))
 order by q.batch for update
