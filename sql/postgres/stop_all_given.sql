-- Says that no block is left to be given. Params: 1 batch. Returns: nothing. Locks: the batch's record.
update batches set given = blocks where id = $1
