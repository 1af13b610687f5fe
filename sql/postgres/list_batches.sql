-- Batches behind a place in the order of all, newest first; loads and purged ones are none.
-- Params: 1 created then at the latest, 2 id below where created then, 3 created at the earliest, 4 how many. Returns: id, created_at, op, state, blocks. Locks: none.
select id, created_at, op, state, blocks from batches
 where purged_at is null and state <> 0 and (created_at, id) < ($1, $2) and created_at >= $3
 order by created_at desc, id desc limit $4::bigint
