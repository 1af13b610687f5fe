-- Inserts a batch that is whole: nothing → wait or queued.
-- Params: 1 id, 2 op, 3 state, 4 context, 5 priority, 6 external id, 7 created by, 8 now, 9 run_at, 10 expires_at, 11 columns, 12 rows, 13 bytes, 14 last line, 15 given, 16 hash, 17 root, 18 parent, 19 generation, 20 blocks, 21 blocks at first. Returns: nothing.
-- Locks: the file.
insert or fail into batches (id, op, state, context, priority, root, parent, generation, external_id, created_by, created_at, run_at, expires_at, columns, rows, bytes, blocks, given, first_blocks, last_line, hash)
values (?1, ?2, ?3, ?4, ?5, ?17, ?18, ?19, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?20, ?15, ?21, ?14, ?16)
