-- When the first of a batch's running tasks began. They are the first of its tasks, so that few are passed over. Params: 1 batch. Returns: started_at. Locks: none.
select started_at from queue where batch = $1 and state in (2, 3) order by id limit 1
