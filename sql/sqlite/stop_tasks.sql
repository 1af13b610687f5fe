-- Ends the rows of tasks that are not running: queued or later → ended. Params: 1 batch, 2 ended_as, 3 now. Returns: nothing. Locks: the file.
insert or fail into attempts (batch, no, task, attempt, part, at, ended_as, ended, rest, body)
select q.batch, q.no, q.id, q.attempt,
       coalesce((select max(a.part) + 1 from attempts a where a.batch = q.batch and a.no = q.no and a.task = q.id and a.attempt = q.attempt), 0),
       ?3, ?2, q.rows, q.pick, ''
  from queue q where q.batch = ?1 and q.what = 0 and q.state in (0, 1)
