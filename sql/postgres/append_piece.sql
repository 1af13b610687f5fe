-- Counts what was loaded of an append, under the loader's token.
-- Params: 1 batch, 2 token, 3 rows, 4 bytes, 5 blocks, 6 first line, 7 last line, 8 now. Returns: nothing; no change = fenced.
-- Locks: the append's record.
update appends set first_line = case blocks when 0 then $6::integer else first_line end, last_line = $7,
       rows = rows + $3::bigint, bytes = bytes + $4::bigint, blocks = blocks + $5::integer, at = $8
 where batch = $1 and token = $2
