-- Makes an op known, or notes what a process registered for it.
-- Params: 1 app, 2 op, 3 kind, 4 notify, 5 max_lost, 6 now. Returns: id.
-- Locks: the file.
insert into ops (app, op, kind, notify, max_lost, created_at) values (?1, ?2, ?3, ?4, coalesce(?5, 3), ?6)
    on conflict (app, op, kind) do update set notify = max(notify, excluded.notify), max_lost = coalesce(?5, max_lost)
returning id
