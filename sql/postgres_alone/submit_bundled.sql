-- Inserts a batch of one row that is whole and whose task stands with others: nothing → queued.
-- Params: as `submit_whole`, then 22 bundle. Returns: nothing.
-- Locks: the new record.
insert into batches (id, op, state, context, priority, external_id, created_by, created_at, run_at, expires_at, columns, rows, bytes, last_line, given, hash, root, parent, generation, blocks, first_blocks, bundle)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)
