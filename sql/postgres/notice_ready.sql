-- Whether a notice is due for an op. Params: 1 op, 2 now. Returns: 1. Locks: none.
select 1 from notices where op = $1 and worker is null and due_at <= $2 limit 1
