-- The exact counts of a batch. Params: 1 batch. Returns: success, failed, aborted, expired, first start. Locks: none.
select coalesce(sum(success), 0), coalesce(sum(failed), 0), coalesce(sum(case ended_as when 4 then ended end), 0),
       coalesce(sum(case ended_as when 5 then ended end), 0), min(started_at)
  from attempts where batch = ?1 and no < (select blocks from batches where id = ?1)
