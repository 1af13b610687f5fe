-- Where an append to a batch begins. Params: 1 batch. Returns: last_line, blocks, columns. Locks: none.
select last_line, blocks, columns from batches where id = $1
