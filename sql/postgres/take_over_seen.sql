-- Whether a task that was lost is known to have begun: something was recorded of this attempt. Params: 1 batch, 2 no, 3 task, 4 attempt. Returns: 1 if so. Locks: none.
select 1 from attempts where batch = $1 and no = $2 and task = $3 and attempt = $4 limit 1
