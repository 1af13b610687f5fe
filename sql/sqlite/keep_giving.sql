-- Batches of which blocks are left to be given. Params: none. Returns: id. Locks: none.
select id from batches where state = 2 and given < blocks limit 10
