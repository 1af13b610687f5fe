-- What was recorded of a query that has ended, in order; nothing of a batch. Params: 1 batch. Returns: ordinals, body, attempt, at, ended_as, ended, rest. Locks: none.
select ordinals, body, attempt, at, ended_as, ended, rest from attempts
 where batch = ?1 and no = 0
   and exists (select 1 from batches b join ops o on o.id = b.op and o.kind = 1 where b.id = ?1 and b.state > 3 and b.purged_at is null)
 order by attempt, task, part
