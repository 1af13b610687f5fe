-- Loads whose loader has been silent. Params: 1 loaded before. Returns: id. Locks: none.
select id from batches where state = 0 and loaded_at < ?1 limit 10
