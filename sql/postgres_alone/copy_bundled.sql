-- Inserts batches of one row that are whole, as `submit_bundled` does one. Params: none; binary records with its columns. Returns: nothing. Locks: the new records.
copy batches (id, op, state, context, priority, external_id, created_by, created_at, run_at, expires_at, columns, rows, bytes, last_line, given, hash, root, parent, generation, blocks, first_blocks, bundle)
from stdin (format binary)
