-- Records tasks that ended with all that was to be said of their rows: running → ended; ends those batches that are one such task: queued → success or failed.
-- Params: 1 worker, 2 now, 3 tasks, 4 batches, 5 tokens, 6 success, 7 failed, 8 bodies. Returns: place in the lists, whether its batch has ended; a task that is not returned is not the worker's.
-- Locks: the tasks' records, which it removes; the new records; the batches' records that end.
-- A join of those that are gone and those that ended would compare each with each: plans here hash nothing but a list.
-- `is not distinct from` keeps the planner off the index of all that the worker runs, and `any` off all there is where it believes that there is nothing.
with told as (
    select * from unnest($3::bigint[], $4::uuid[], $5::bigint[], $6::integer[], $7::integer[], $8::text[]) with ordinality t (id, batch, token, success, failed, body, place)),
gone as (
    delete from queue q using told t
     where q.batch = any (array[t.batch]) and q.id = t.id and q.state is not distinct from 2 and q.token is not distinct from t.token and q.worker is not distinct from $1::bigint
    returning q.batch, q.id, q.no, q.attempt, q.token, q.started_at, q.pick is null and q.no = 0 and q.attempt = 1 as alone, t.success, t.failed, t.body, t.place),
kept as (
    insert into attempts (batch, no, task, attempt, part, worker, token, started_at, at, ended_as, success, failed, body)
    select batch, no, id, attempt, 0, $1::bigint, token, started_at, $2::timestamptz, 1, success, failed, body from gone),
ended as (
    update batches b set state = case when g.failed > 0 then 5 else 4 end, nsuccess = g.success, nfailed = g.failed, naborted = 0, nexpired = 0,
                         started_at = g.started_at, done_at = $2::timestamptz, expire_done = b.expire_done or b.expires_at is not null
      from gone g where b.id = any (array[g.batch]) and g.alone and b.state = 2 and b.blocks = 1 and b.given = 1 and b.rows = g.success + g.failed
    returning b.id, b.op),
noticed as (
    insert into notices (batch, op, at, due_at)
    select e.id, e.op, $2::timestamptz, $2::timestamptz from ended e where e.op = any (array(select id from ops where notify)))
select g.place, g.batch in (select id from ended) from gone g
