-- When the next notice is due that is not due yet. Params: 1 now. Returns: due_at. Locks: none.
select min(due_at) from notices where worker is null and due_at > ?1
