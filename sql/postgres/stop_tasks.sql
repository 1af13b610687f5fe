-- Ends tasks that are not running, and their rows: queued or later → ended. Params: 1 batch, 2 ended_as, 3 now. Returns: nothing. Locks: the tasks' records, which it removes; those that others hold are skipped.
with open as materialized (
    select batch, id from queue where batch = $1 and what = 0 and state in (0, 1) order by id for update skip locked),
gone as (
    delete from queue q using open where q.batch = any (array[open.batch]) and q.id = open.id returning q.batch, q.no, q.id, q.attempt, q.rows, q.pick)
insert into attempts (batch, no, task, attempt, part, at, ended_as, ended, rest, body)
select g.batch, g.no, g.id, g.attempt,
       coalesce((select max(a.part) + 1 from attempts a where a.batch = g.batch and a.no = g.no and a.task = g.id and a.attempt = g.attempt), 0),
       $3::timestamptz, $2::smallint, g.rows, g.pick, ''
  from gone g
