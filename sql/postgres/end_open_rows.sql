-- Whether a batch has a task of rows. Params: 1 batch. Returns: 1. Locks: none.
select 1 from queue where batch = $1 and what = 0 limit 1
