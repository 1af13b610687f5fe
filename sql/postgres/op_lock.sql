-- Holds an op for the rest of the caller's transaction. Params: 1 op. Returns: 1. Locks: the op's record.
select 1 from ops where id = $1 for no key update
