-- One batch as a list looks at it. Params: 1 batch. Returns: id, created_at, op, state, blocks. Locks: none.
select id, created_at, op, state, blocks from batches where id = $1 and purged_at is null and state <> 0
