-- Removes a load's record when no block of it is left. Params: 1 batch. Returns: nothing; no change = blocks are left. Locks: the batch's record.
delete from batches where id = $1 and state = 0 and not exists (select 1 from blocks where batch = $1)
