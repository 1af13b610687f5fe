-- Inserts blocks, as `submit_block` does one. Params: none; binary records with its columns. Returns: nothing. Locks: the new records.
copy blocks (batch, no, first_line, rows, rejected, lines, body) from stdin (format binary)
