-- Records tasks of bundles that ended with all that was to be said of their rows, and ends their batches: queued → success or failed.
-- Params: 1 worker, 2 now; of each bundle: 3 its batch, 4 token, 5 and 6 the places of its first and last task in the lists, counted from 1; of each task, those of a bundle one after
-- the other: 7 batch, 8 success, 9 failed, 10 body.
-- Returns: a bundle that was the worker's, or null; whether nothing of it is left; of null, the places in the lists of the batches that have ended.
-- Locks: the bundles' records, in the order of their keys; the new records; the batches' records, which end.
-- The lists are cut into those of each bundle: a join by the bundle would compare each task with each bundle, as plans here hash nothing.
-- `is not distinct from` keeps the planner off the index of all that the worker runs, and off reading the key for its second column.
with asked as (select * from unnest($3::uuid[], $4::bigint[], $5::integer[], $6::integer[]) a (bundle, token, first, last)),
locked as materialized (
    select batch from queue where batch = any ($3::uuid[]) and id = 9223372036854775806 order by batch for update),
held as (
    update queue q set success = q.success + (a.last - a.first + 1) from asked a
     where a.bundle in (select batch from locked)
       and q.batch = any (array[a.bundle]) and q.id is not distinct from 9223372036854775806 and q.state is not distinct from 2 and q.token is not distinct from a.token and q.worker is not distinct from $1::bigint
    returning q.batch, q.token, q.attempt, q.started_at, q.success >= q.rows as through, a.first, a.last),
ended as (
    update batches b set state = case when t.failed > 0 then 5 else 4 end, nsuccess = t.success, nfailed = t.failed, naborted = 0, nexpired = 0,
                         started_at = h.started_at, done_at = $2::timestamptz
      from held h cross join lateral unnest(($7::uuid[])[h.first:h.last], ($8::integer[])[h.first:h.last], ($9::integer[])[h.first:h.last], ($10::text[])[h.first:h.last])
             with ordinality t (batch, success, failed, body, place)
     where b.id = any (array[t.batch]) and b.state = 2 and b.rows = t.success + t.failed
    returning b.id, b.op, h.first + t.place - 1 as place, t.success, t.failed, t.body, h.token, h.attempt, h.started_at),
kept as (
    insert into attempts (batch, no, task, attempt, part, worker, token, started_at, at, ended_as, success, failed, body)
    select id, 0, 0, attempt, 0, $1::bigint, token, started_at, $2::timestamptz, 1, success, failed, body from ended),
noticed as (
    insert into notices (batch, op, at, due_at)
    select e.id, e.op, $2::timestamptz, $2::timestamptz from ended e where e.op = any (array(select id from ops where notify)))
select batch, through, null::bigint[] from held
union all
select null, null, array_agg(place) from ended
