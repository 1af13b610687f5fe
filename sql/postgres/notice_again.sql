-- Puts a notice off. Params: 1 id, 2 token, 3 worker, 4 due_at. Returns: nothing; no change = fenced. Locks: the notice's record.
update notices set token = null, worker = null, due_at = $4 where id = $1 and token = $2 and worker = $3
