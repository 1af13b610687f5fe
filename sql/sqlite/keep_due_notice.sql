-- When the next notice is due. Params: none. Returns: due_at. Locks: none.
select min(due_at) from notices where worker is null
