-- Notices that are due for an op. Params: 1 op, 2 now. Returns: id, batch, attempts. Locks: none.
select id, batch, attempts from notices where op = ?1 and worker is null and due_at <= ?2 order by due_at, id limit 100
