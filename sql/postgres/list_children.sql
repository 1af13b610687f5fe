-- Retries of a batch behind a place in the order of all, newest first.
-- Params: 1 parent, 2 created then at the latest, 3 id below where created then, 4 created at the earliest, 5 how many. Returns: id, created_at, op, state, blocks. Locks: none.
-- The retries are found first: in the order of all batches they may be far apart.
with children as materialized (
    select id, created_at, op, state, blocks from batches where parent = $1 and purged_at is null and state <> 0)
select id, created_at, op, state, blocks from children
 where (created_at, id) < ($2, $3) and created_at >= $4 order by created_at desc, id desc limit $5::bigint
