-- Whether a batch is purged. Params: 1 batch. Returns: 1 if it is. Locks: none.
select purged_at is not null from batches where id = ?1 and state <> 0
