-- Whether a worker has recorded a final outcome of a batch. Params: 1 batch. Returns: 1. Locks: none.
select 1 from attempts where batch = $1 and attempt > 0 and success + failed > 0 limit 1
