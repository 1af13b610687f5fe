-- The next block of which a task is in one of two states. A task that was split off has a number above every block's.
-- Params: 1 batch, 2 from block, 3 state, 4 another state. Returns: no; null = there is none. Locks: none.
select min(no) from (
    (select no from queue where batch = $1 and id >= $2::bigint and id < 4294967296 and what = 0 and state in ($3, $4) order by id limit 1)
    union all
    select no from queue where batch = $1 and id >= 4294967296 and no >= $2::bigint and what = 0 and state in ($3, $4)
    union all
    -- One that stands with others.
    select 0 from batches b join queue q on q.batch = b.bundle and q.id = 9223372036854775806
     where b.id = $1 and b.state = 2 and $2::bigint = 0 and q.state in ($3, $4)) open
