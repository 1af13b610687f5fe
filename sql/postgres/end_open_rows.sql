-- Whether a batch has a task of rows. Params: 1 batch. Returns: 1. Locks: none.
-- From the end: what is at the beginning has been deleted, and a scan would pass over it.
(select 1 from queue where batch = $1 and id < 9223372036854775806 and what = 0 order by id desc limit 1)
union all
-- One that stands with others. `offset 0`: it is looked up by its key.
select 1 from batches b cross join lateral (select 1 from queue where batch = b.bundle and id = 9223372036854775806 offset 0) q where b.id = $1 and b.state = 2
limit 1
