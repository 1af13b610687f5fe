-- Marks an ended batch as purged, so that its rows are seen by nobody from then on: ended → being purged.
-- Params: 1 batch, 2 now, 3 an end before this is not waited for to be told. Returns: nothing; no change = it has not ended, is purged, or waits.
-- Locks: the batch's record.
-- Counts notices rather than asks for one, so that the planner takes the index of their batches; there are one or two.
-- `is true` keeps it off the index of when batches were created.
update batches b set purged_at = $2, purging = true
 where b.id = $1 and b.state >= 4 and (b.purged_at is null) is true and (b.keep_until is null or b.keep_until <= $2)
   and (b.done_at < $3 or (select count(*) from notices n where n.batch = b.id) = 0)
   and not exists (select 1 from batches c where c.parent = b.id and c.state < 4)
