-- The running tasks of one block. A task that was split off has a number above every block's.
-- Params: 1 batch, 2 no. Returns: id, attempt, worker, started_at, pick. Locks: none.
select id, attempt, worker, started_at, pick from queue where batch = $1 and id = $2::bigint and what = 0 and state in (2, 3)
union all
select id, attempt, worker, started_at, pick from queue where batch = $1 and id >= 4294967296 and no = $2::bigint and what = 0 and state in (2, 3)
