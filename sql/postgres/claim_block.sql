-- A block's inputs. Params: 1 batch, 2 no. Returns: first_line, lines, body. Locks: none.
select first_line, lines, body from blocks where batch = $1 and no = $2
