-- When the first recorded attempt of a batch's first block began. Params: 1 batch. Returns: started_at. Locks: none.
select started_at from attempts where batch = $1 and started_at is not null order by no, task, attempt, part limit 1
