-- Whether a batch is purged. Params: 1 batch. Returns: whether it is; nothing = there is no such batch. Locks: none.
select purged_at is not null from batches where id = $1 and state <> 0
