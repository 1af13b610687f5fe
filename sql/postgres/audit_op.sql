-- Appends to the audit what was done to an op. Params: 1 at, 2 by, 3 what, 4 op, 5 detail. Returns: nothing. Locks: the new record.
insert into audit (at, by, what, op, detail) values ($1, $2, $3, $4, $5)
