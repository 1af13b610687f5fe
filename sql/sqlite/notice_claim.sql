-- Claims the notices that are due for an op, 100 at most. Params: 1 op, 2 now, 3 token, 4 worker. Returns: id, batch, attempts before. Locks: the file.
update or fail notices set token = ?3, worker = ?4, attempts = attempts + 1
 where id in (select id from notices where op = ?1 and worker is null and due_at <= ?2 order by due_at, id limit 100)
returning id, batch, attempts - 1
