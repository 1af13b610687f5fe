-- The end that has waited longest to be told. Params: none. Returns: batch, at, attempts. Locks: none.
select batch, at, attempts from notices order by id limit 1
