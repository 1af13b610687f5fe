-- Rewrites the inputs of a block of an ended batch. Params: 1 batch, 2 no, 3 body. Returns: nothing; no change = the batch has not ended.
-- Locks: the block's record.
update blocks set body = $3 where batch = $1 and no = $2 and exists (select 1 from batches where id = $1 and state >= 4)
