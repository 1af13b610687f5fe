-- Counts what was loaded of an append, under the loader's token.
-- Params: 1 batch, 2 token, 3 rows, 4 bytes, 5 blocks, 6 first line, 7 last line, 8 now. Returns: nothing; no change = fenced.
-- Locks: the file.
update or fail appends set first_line = case blocks when 0 then ?6 else first_line end, last_line = ?7,
       rows = rows + ?3, bytes = bytes + ?4, blocks = blocks + ?5, at = ?8
 where batch = ?1 and token = ?2
