-- Loads whose loader has been silent. Params: 1 loaded before. Returns: id, load token. Locks: none.
select id, load_token from batches where state = 0 and loaded_at < $1 limit 10
