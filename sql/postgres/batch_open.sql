-- Whether a batch is seen and has not ended. Params: 1 id. Returns: 1. Locks: none.
select 1 from batches where id = $1 and state > 0 and state < 4
