-- Inserts a block. Params: 1 batch, 2 no, 3 first line, 4 rows, 5 rejected, 6 lines, 7 body. Returns: nothing.
-- Locks: the new record.
insert into blocks (batch, no, first_line, rows, rejected, lines, body) values ($1, $2, $3, $4, $5, $6, $7)
