-- When the next task is due. Params: none. Returns: due_at. Locks: none.
select min(due_at) from queue where state in (0, 3) and due_at is not null
