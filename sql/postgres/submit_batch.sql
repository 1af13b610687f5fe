-- Inserts a batch that is being loaded.
-- Params: 1 id, 2 op, 3 context, 4 priority, 5 root, 6 parent, 7 generation, 8 external id, 9 created by, 10 now, 11 run_at, 12 expires_at, 13 columns, 14 load token. Returns: nothing.
-- Locks: the new record.
insert into batches (id, op, state, context, priority, root, parent, generation, external_id, created_by, created_at, run_at, expires_at, columns, load_token, loaded_at)
values ($1, $2, 0, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $10)
