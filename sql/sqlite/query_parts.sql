-- What was recorded of a query that has ended, task by task, each again being one; nothing of a batch.
-- Params: 1 batch. Returns: ordinals, body, attempt, at, ended_as, ended, rest. Locks: none.
select ordinals, body, attempt, at, ended_as, ended, rest from attempts
 where batch = ?1 and no = 0
   and (select o.kind = 1 and b.state > 3 and b.purged_at is null from batches b join ops o on o.id = b.op where b.id = ?1)
 order by task, attempt, part
