-- Workers that have not ended. Params: none. Returns: no, lock. Locks: none.
select no, lock from workers where ended_at is null
