-- Holds a batch for the rest of the caller's transaction. Params: 1 batch. Returns: 1. Locks: the batch's record.
select 1 from batches where id = $1 for no key update
