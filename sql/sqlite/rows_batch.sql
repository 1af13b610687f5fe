-- What a reader of rows must know of their batch. Params: 1 batch. Returns: state, blocks, given. Locks: none.
select state, blocks, given from batches where id = ?1 and state <> 0
