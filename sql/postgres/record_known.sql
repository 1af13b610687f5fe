-- A part of an attempt that may have been recorded. Params: 1 batch, 2 no, 3 task, 4 attempt, 5 part, 6 token. Returns: 1. Locks: none.
select 1 from attempts where batch = $1 and no = $2 and task = $3 and attempt = $4 and part = $5 and token = $6
