-- Makes an op known, or notes what a process registered for it; one that only submits to it registers nothing.
-- Params: 1 app, 2 op, 3 kind, 4 notify, 5 max_lost (null = nothing is registered), 6 now, 7 keep_for. Returns: id.
-- Locks: the op's record, the one that was there as well.
insert into ops (app, op, kind, notify, max_lost, created_at, keep_for) values ($1, $2, $3, $4, coalesce($5::integer, 3), $6, $7::bigint)
    on conflict (app, op, kind) do update set notify = ops.notify or excluded.notify, max_lost = coalesce($5::integer, ops.max_lost),
       keep_for = case when $5::integer is null then ops.keep_for else $7::bigint end
returning id
