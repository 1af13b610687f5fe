-- Batches that are being purged, and since when. Params: 1 limit. Returns: id, purged_at. Locks: none.
select id, purged_at from batches where purging = 1 order by id limit ?1
