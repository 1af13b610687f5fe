-- Records tasks of bundles that ended with all that was to be said of their rows, and ends their batches: queued → success or failed.
-- Params: 1 worker, 2 now, 3 bundles, 4 batches, 5 tokens, 6 success, 7 failed, 8 bodies.
-- Returns: a bundle that was the worker's, or null; whether nothing of it is left; or the place in the lists of a batch that has ended.
-- Locks: the bundles' records, in the order of their keys; the new records; the batches' records, which end.
-- `is not distinct from` keeps the planner off the index of all that the worker runs, and off reading the key for its second column.
with told as (
    select * from unnest($3::uuid[], $4::uuid[], $5::bigint[], $6::integer[], $7::integer[], $8::text[]) with ordinality t (bundle, batch, token, success, failed, body, place)),
locked as materialized (
    select batch from queue where batch = any ($3::uuid[]) and id = 9223372036854775806 order by batch for update),
of as materialized (select bundle, token, count(*) as tasks from told where bundle in (select batch from locked) group by bundle, token),
held as (
    update queue q set success = q.success + of.tasks from of
     where q.batch = any (array[of.bundle]) and q.id is not distinct from 9223372036854775806 and q.state is not distinct from 2 and q.token is not distinct from of.token and q.worker is not distinct from $1::bigint
    returning q.batch, q.token, q.attempt, q.started_at, q.success >= q.rows as through),
ended as (
    update batches b set state = case when t.failed > 0 then 5 else 4 end, nsuccess = t.success, nfailed = t.failed, naborted = 0, nexpired = 0,
                         started_at = h.started_at, done_at = $2::timestamptz
      from held h join told t on t.bundle = h.batch and t.token = h.token
     where b.id = any (array[t.batch]) and b.state = 2 and b.rows = t.success + t.failed
    returning b.id, b.op, t.place, t.success, t.failed, t.body, h.token, h.attempt, h.started_at),
kept as (
    insert into attempts (batch, no, task, attempt, part, worker, token, started_at, at, ended_as, success, failed, body)
    select id, 0, 0, attempt, 0, $1::bigint, token, started_at, $2::timestamptz, 1, success, failed, body from ended),
noticed as (
    insert into notices (batch, op, at, due_at)
    select e.id, e.op, $2::timestamptz, $2::timestamptz from ended e where e.op = any (array(select id from ops where notify)))
select batch, through, null::bigint from held
union all
select null, null, place from ended
