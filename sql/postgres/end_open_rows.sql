-- Whether a batch has a task of rows. Params: 1 batch. Returns: 1. Locks: none.
-- From the end: what is at the beginning has been deleted, and a scan would pass over it.
select 1 from queue where batch = $1 and id < 9223372036854775807 and what = 0 order by id desc limit 1
