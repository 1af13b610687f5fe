-- Whether a batch has a task of rows. Params: 1 batch. Returns: 1. Locks: none.
-- From the end: what is at the beginning has been deleted, and a scan would pass over it.
(select 1 from queue where batch = $1 and id < 9223372036854775806 and what = 0 order by id desc limit 1)
union all
-- One that stands with others.
select 1 from batches b join queue q on q.batch = b.bundle and q.id = 9223372036854775806 where b.id = $1 and b.state = 2
limit 1
