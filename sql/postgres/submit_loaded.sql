-- Counts what was loaded, under the loader's token.
-- Params: 1 batch, 2 load token, 3 rows, 4 bytes, 5 blocks, 6 last line, 7 now. Returns: nothing; no change = fenced.
-- Locks: the batch's record.
update batches set rows = rows + $3::bigint, bytes = bytes + $4::bigint, blocks = blocks + $5::integer, last_line = greatest(last_line, $6), loaded_at = $7
 where id = $1 and state = 0 and load_token = $2
