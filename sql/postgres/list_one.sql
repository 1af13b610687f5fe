-- One batch as a list looks at it. Params: 1 batch. Returns: id, created_at, op, state, blocks. Locks: none.
-- `is true` keeps the planner off the index of when batches were created, in which it would look for the id from end to end.
select id, created_at, op, state, blocks from batches where id = $1 and (purged_at is null) is true and state <> 0
