-- Raises the watermark of blocks whose tasks were made. Params: 1 batch, 2 from, 3 to. Returns: nothing; no change = somebody else did.
-- Locks: the batch's record.
update batches set given = $3 where id = $1 and state = 2 and given = $2
