-- One block. Params: 1 batch, 2 no. Returns: no, first_line, rows, lines, body. Locks: none.
select no, first_line, rows, lines, body from blocks where batch = $1 and no = $2
