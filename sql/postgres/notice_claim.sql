-- Claims the notices that are due for an op, 100 at most. Params: 1 op, 2 now, 3 token, 4 worker. Returns: id, batch, attempts before. Locks: the notices' records; those that others hold are skipped.
with due as materialized (
    select id from notices where op = $1 and worker is null and due_at <= $2 order by due_at, id limit 100 for update skip locked)
update notices n set token = $3, worker = $4, attempts = n.attempts + 1 where n.id = any (array(select id from due))
returning n.id, n.batch, n.attempts - 1
