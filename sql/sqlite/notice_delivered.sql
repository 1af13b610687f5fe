-- Removes a delivered notice. Params: 1 id, 2 token, 3 worker. Returns: nothing; no change = fenced. Locks: the file.
delete from notices where id = ?1 and token = ?2 and worker = ?3
