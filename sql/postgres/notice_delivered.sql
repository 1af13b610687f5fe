-- Removes delivered notices. Params: 1 ids, 2 token, 3 worker. Returns: nothing; fewer changes = fenced. Locks: the notices' records.
delete from notices where id = any ($1::bigint[]) and token = $2 and worker = $3
