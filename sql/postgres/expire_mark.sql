-- Notes that a batch's waiting rows have expired. Params: 1 batch. Returns: nothing; no change = they had, or some are left. Locks: the batch's record.
-- Some are left where others held them when the rest was ended.
update batches set expire_done = true where id = $1 and state in (1, 2) and not expire_done
   and not exists (select 1 from queue where batch = $1 and what = 0 and state in (0, 1))
