-- Appends to the audit. Params: 1 at, 2 by, 3 what, 4 batch. Returns: nothing. Locks: the new record.
insert into audit (at, by, what, batch) values ($1, $2, $3, $4)
