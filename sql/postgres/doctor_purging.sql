-- Batches that are being purged, and since when. Params: 1 limit. Returns: id, purged_at. Locks: none.
select id, purged_at from batches where purging order by id limit $1::bigint
