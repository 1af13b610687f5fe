-- Moves due tasks: later → queued, at most 10,000. Params: 1 now. Returns: nothing. Locks: the file.
update or fail queue set state = 1, due_at = null where (batch, id) in (select batch, id from queue where state in (0, 3) and state = 0 and due_at <= ?1 limit 10000) and state = 0
