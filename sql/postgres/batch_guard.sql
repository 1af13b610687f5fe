-- Reads what a step must know of a batch before it changes it.
-- Params: 1 batch. Returns: state, op, priority, created_at, run_at, expires_at, abort_at, rows, blocks, given, hash, load_token, loaded_at, context, expire_done, purged_at.
-- Locks: none; the caller has locked the record (`batch_lock`, `batch_share`).
select state, op, priority, created_at, run_at, expires_at, abort_at, rows, blocks, given, hash, load_token, loaded_at, context, expire_done, purged_at
  from batches where id = $1
