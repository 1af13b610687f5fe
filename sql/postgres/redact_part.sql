-- Rewrites the outcomes of a part of an ended batch. Params: 1 batch, 2 no, 3 task, 4 attempt, 5 part, 6 body. Returns: nothing; no change = the batch has not ended.
-- Locks: the attempt's record.
update attempts set body = $6 where batch = $1 and no = $2 and task = $3 and attempt = $4 and part = $5
   and exists (select 1 from batches where id = $1 and state >= 4)
