-- Makes an append's blocks count, where they are the next ones of a held batch.
-- Params: 1 batch, 2 first block, 3 rows, 4 bytes, 5 blocks, 6 last line, 7 columns. Returns: nothing; no change = it is held no more.
-- Locks: the batch's record.
update batches set rows = rows + $3::bigint, bytes = bytes + $4::bigint, blocks = blocks + $5::integer, last_line = $6, columns = $7
 where id = $1 and state = 1 and blocks = $2
