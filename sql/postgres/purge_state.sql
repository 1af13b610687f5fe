-- Whether a batch is being purged. Params: 1 batch. Returns: 1. Locks: none.
select 1 from batches where id = $1 and purging
