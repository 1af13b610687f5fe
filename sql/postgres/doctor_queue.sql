-- Tasks by their key, with what is wrong with each. Params: 1 after this batch, 2 and this task, 3 limit.
-- Returns: batch, id, no such batch, batch not open, block not given, worker ended, a close's attempts, its error, rows that cannot be read. Locks: none.
-- Of those that stand together a batch may have ended; each must be there, and say that it stands there.
select q.batch, q.id,
       case q.what when 2 then exists (select 1 from unnest(q.members) m (id) where not exists (select 1 from batches where id = any (array[m.id]) and bundle = q.batch)) else b.id is null end,
       q.what <> 2 and coalesce(b.state not in (1, 2), false), coalesce(q.what = 0 and q.no >= b.given, false),
       q.worker is not null and not exists (select 1 from workers w where w.no = q.worker and w.ended_at is null),
       q.attempt, case q.what when 1 then q.error end, exists (select 1 from unnest(q.pick) p (ordinal) where p.ordinal is null)
  from queue q left join batches b on b.id = any (array[q.batch])
 where (q.batch, q.id) > ($1, $2) order by q.batch, q.id limit $3::bigint
