-- The open tasks of one block. A task that was split off has a number above every block's.
-- Params: 1 batch, 2 no. Returns: state, pick, attempt. Locks: none.
select state, pick, attempt from queue where batch = $1 and id = $2::bigint and what = 0
union all
select state, pick, attempt from queue where batch = $1 and id >= 4294967296 and no = $2::bigint and what = 0
union all
-- One that stands with others. `offset 0`: it is looked up by its key.
select q.state, null, q.attempt from batches b cross join lateral (select state, attempt from queue where batch = b.bundle and id = 9223372036854775806 offset 0) q
 where b.id = $1 and b.state = 2 and $2::bigint = 0
