-- The first line of a block. Params: 1 batch, 2 no. Returns: first_line. Locks: none.
select first_line from blocks where batch = $1 and no = $2
