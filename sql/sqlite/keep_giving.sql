-- Batches of which blocks are left to be given. Params: 1 how many are known that stay. Returns: id. Locks: none.
select id from batches where given > 0 and given < blocks and state = 2 limit 10 + ?1
