-- Claims a notice. Params: 1 id, 2 token, 3 worker. Returns: nothing; no change = somebody else has it. Locks: the file.
update notices set token = ?2, worker = ?3, attempts = attempts + 1 where id = ?1 and worker is null
