-- Tombstones that are old enough to be forgotten. Params: 1 purged before, 2 limit. Returns: id. Locks: none.
select id from batches where purged_at is not null and purged_at < $1 and not purging order by purged_at limit $2::bigint
