-- Batches whose time has passed. Params: 1 now, 2 how many are known that stay. Returns: id. Locks: none.
select id from batches where expires_at <= $1 and expires_at is not null and state in (1, 2) and not expire_done limit 100 + $2::bigint
