-- The running tasks of one block. A task that was split off has a number above every block's.
-- Params: 1 batch, 2 no. Returns: id, attempt, worker, started_at, pick. Locks: none.
select id, attempt, worker, started_at, pick from queue where batch = $1 and id = $2::bigint and what = 0 and state in (2, 3)
union all
select id, attempt, worker, started_at, pick from queue where batch = $1 and id >= 4294967296 and no = $2::bigint and what = 0 and state in (2, 3)
union all
-- One that stands with others.
select 0, q.attempt, q.worker, q.started_at, null from batches b join queue q on q.batch = b.bundle and q.id = 9223372036854775806
 where b.id = $1 and b.state = 2 and $2::bigint = 0 and q.state = 2
