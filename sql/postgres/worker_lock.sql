-- The lock that is a worker's life. Params: 1 no. Returns: lock. Locks: none.
select lock from workers where no = $1
