-- Holds a batch for the rest of the caller's transaction. Params: 1 batch. Returns: 1. Locks: none; the caller's transaction is the only writer.
select 1 from batches where id = ?1
