-- Stores a notice where a receiver is registered. Params: 1 batch, 2 op, 3 now. Returns: nothing. Locks: the file.
insert or fail into notices (batch, op, at, due_at) select ?1, id, ?3, ?3 from ops where id = ?2 and notify = 1
