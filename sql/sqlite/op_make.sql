-- Makes an op known, or notes what a process registered for it; one that only submits to it registers nothing.
-- Params: 1 app, 2 op, 3 kind, 4 notify, 5 max_lost (null = nothing is registered), 6 now, 7 keep_for. Returns: id.
-- Locks: the file.
insert or fail into ops (app, op, kind, notify, max_lost, created_at, keep_for) values (?1, ?2, ?3, ?4, coalesce(?5, 3), ?6, ?7)
    on conflict (app, op, kind) do update set notify = max(notify, excluded.notify), max_lost = coalesce(?5, max_lost),
       keep_for = case when ?5 is null then keep_for else ?7 end
returning id
