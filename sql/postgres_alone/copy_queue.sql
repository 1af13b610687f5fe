-- Adds tasks, as `queue_add` does one. Params: none; binary records with its columns. Returns: nothing. Locks: the new records.
copy queue (batch, id, no, what, op, state, priority, turn, age, due_at, rows, pick, attempt, failures, losses, laters, suspect) from stdin (format binary)
