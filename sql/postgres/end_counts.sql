-- The exact counts of a batch. Params: 1 batch. Returns: success, failed, aborted, expired, first start. Locks: none.
select coalesce(sum(success), 0)::bigint, coalesce(sum(failed), 0)::bigint, coalesce(sum(ended) filter (where ended_as = 4), 0)::bigint,
       coalesce(sum(ended) filter (where ended_as = 5), 0)::bigint, min(started_at)
  from attempts where batch = $1 and no < (select blocks from batches where id = $1)
