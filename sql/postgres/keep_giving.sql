-- Batches of which blocks are left to be given. Params: 1 how many are known that stay. Returns: id. Locks: none.
select id from batches where state = 2 and given < blocks limit 10 + $1::bigint
