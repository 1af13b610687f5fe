-- Holds an op for the rest of the caller's transaction. Params: 1 op. Returns: 1. Locks: none; the caller's transaction is the only writer.
select 1 from ops where id = ?1
