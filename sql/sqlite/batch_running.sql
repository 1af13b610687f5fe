-- The first start among a batch's running tasks. Params: 1 batch. Returns: started_at. Locks: none.
select min(started_at) from queue where batch = ?1 and state in (2, 3)
