-- Appends whose loader has been silent. Params: 1 loaded before. Returns: batch, token. Locks: none.
select batch, token from appends where token is not null and at < $1 limit 10
