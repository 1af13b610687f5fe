-- Ended batches of an op, oldest first, with whether each may be purged now.
-- Params: 1 op, 2 ended before, 3 made after this, 4 and this batch, 5 limit, 6 an end before this is not waited for to be told, 7 now.
-- Returns: id, app, op, kind, rows, bytes with those of its output files, output files, created_at, may. Locks: none.
-- Counts notices rather than asks for one, so that the planner takes the index of their batches; there are one or two.
select b.id, o.app, o.op, o.kind, b.rows,
       b.bytes + (select coalesce(sum(f.size), 0)::bigint from files f where f.batch = b.id), (select count(*) from files f where f.batch = b.id), b.created_at,
       (b.keep_until is null or b.keep_until <= $7)
       and (b.done_at < $6 or (select count(*) from notices n where n.batch = b.id) = 0)
       and not exists (select 1 from batches c where c.parent = b.id and c.state < 4)
  from batches b join ops o on o.id = b.op
 where b.op = $1 and b.purged_at is null and b.created_at < $2 and b.done_at < $2 and (b.created_at, b.id) > ($3, $4)
 order by b.created_at, b.id limit $5::bigint
