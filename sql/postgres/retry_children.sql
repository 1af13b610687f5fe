-- The retries of a batch, oldest first. Params: 1 batch. Returns: id, whether it is purged, rows that ran to their end. Locks: none.
select id, purged_at is not null, coalesce(nsuccess + nfailed, 0) from batches where parent = $1 and state <> 0 order by created_at, id
