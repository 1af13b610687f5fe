-- When the next batch expires. Params: none. Returns: expires_at. Locks: none.
select min(expires_at) from batches where expires_at is not null and state in (1, 2) and not expire_done
