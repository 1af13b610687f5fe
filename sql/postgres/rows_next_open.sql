-- The next block of which a task is in one of two states. A task that was split off has a number above every block's.
-- Params: 1 batch, 2 from block, 3 state, 4 another state. Returns: no; null = there is none. Locks: none.
select min(no) from (
    (select no from queue where batch = $1 and id >= $2::bigint and id < 4294967296 and what = 0 and state in ($3, $4) order by id limit 1)
    union all
    select no from queue where batch = $1 and id >= 4294967296 and no >= $2::bigint and what = 0 and state in ($3, $4)
    union all
    -- One that stands with others. `offset 0`: it is looked up by its key.
    select 0 from batches b cross join lateral (select state from queue where batch = b.bundle and id = 9223372036854775806 offset 0) q
     where b.id = $1 and b.state = 2 and $2::bigint = 0 and q.state in ($3, $4)) open
