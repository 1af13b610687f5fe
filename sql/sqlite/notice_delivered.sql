-- Removes delivered notices. Params: 1 ids as JSON, 2 token, 3 worker. Returns: nothing; fewer changes = fenced. Locks: the file.
delete from notices where id in (select value from json_each(?1)) and token = ?2 and worker = ?3
