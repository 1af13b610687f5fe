-- Inserts an append that is being loaded. Params: 1 batch, 2 first block, 3 key, 4 after line, 5 by, 6 now, 7 token. Returns: nothing.
-- Locks: the new record.
insert into appends (batch, first_no, key, after_line, last_line, by, at, token) values ($1, $2, $3, $4::integer, $4::integer, $5, $6, $7)
