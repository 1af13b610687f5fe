-- Whether a batch is still as it was read: it ends, and is purged, while others look. Params: 1 batch, 2 state, 3 rows, 4 purged. Returns: 1. Locks: none.
select 1 from batches where id = $1 and state = $2 and rows = $3 and (purged_at is not null) = $4 and not purging
