-- Queries that were submitted together stand in the queue together.

-- A record of the queue whose `what` is 2 is a bundle: the first tasks of these batches, of one row each, that are all claimed by one claim
-- or not at all. Whatever concerns one of them alone makes each a task of its own first. Its `success` counts those that have ended, and the record
-- goes with the last. `members` costs 16 bytes a batch, written again with each claim and each record of some of them.
alter table queue add column members uuid[];
alter table queue add constraint queue_members_iff_bundle check ((members is not null) = (what = 2));
-- A program that knows of no bundles takes one over as if it were a task of rows, and is refused.
alter table queue add constraint queue_bundle_is_whole check (what <> 2 or (pick is null and suspect = 0 and losses = 0));
-- The bundle that holds a batch's first task, as long as there is such a record and the batch is open. Set at the submit, in no index.
alter table batches add column bundle uuid;

-- One entry for each bundle that waits, a hundredth of what its tasks would have.
create index queue_bundles on queue (op, priority desc, turn, batch) where state = 1 and what = 2;
create index queue_bundles_oldest on queue (op, age, batch) where state = 1 and what = 2;

-- As before, and the state of one that is in a bundle.
create or replace function blockrows(of_batch uuid, of_no integer)
returns table (batch uuid, line integer, status text, input json, result json, messages json, attempt integer, done_at timestamptz)
language sql stable parallel safe
begin atomic
with
inputs as (
    select e.ordinal::integer - 1 as ordinal, coalesce(k.lines[e.ordinal], k.first_line - 1 + e.ordinal::integer) as line, e.value::json as input
      from blocks k, string_to_table(rtrim(k.body, E'\n'), E'\n') with ordinality e (value, ordinal)
     where k.batch = of_batch and k.no = of_no and k.format = 0
),
lines as (
    select case when a.ordinals is null then e.ordinal::integer - 1 else a.ordinals[e.ordinal] end as ordinal,
           coalesce(field(e.value::json, 'status'), 'success') as status, member(e.value::json, 'result') as result,
           member(e.value::json, 'messages') as messages, a.attempt, a.at
      from attempts a, string_to_table(rtrim(a.body, E'\n'), E'\n') with ordinality e (value, ordinal)
     where a.batch = of_batch and a.no = of_no and a.format = 0 and a.body <> ''
),
latest as (select distinct on (l.ordinal) l.ordinal, l.messages, l.attempt from lines l order by l.ordinal, l.attempt desc, l.at desc),
outcomes as (
    select l.ordinal, l.status, l.result, l.attempt, l.at from lines l where l.status not in ('retry', 'later')
    union all
    select coalesce(r.ordinal, -1), case a.ended_as when 5 then 'expired' else 'aborted' end, null::json, nullif(a.attempt, 0), a.at
      from attempts a left join unnest(a.rest) r (ordinal) on true
     where a.batch = of_batch and a.no = of_no and a.ended > 0 and (a.rest is null or r.ordinal is not null)
),
tasks as (
    select q.state, q.attempt, coalesce(p.ordinal, -1) as ordinal
      from queue q left join unnest(q.pick) p (ordinal) on true
     where q.batch = of_batch and q.no = of_no and q.what = 0 and (q.pick is null or p.ordinal is not null)
    union all
    select q.state, q.attempt, -1
      from batches b join queue q on q.batch = b.bundle and q.id = 9223372036854775806
     where b.id = of_batch and of_no = 0
)
select b.id, i.line,
       coalesce(o.status, case when b.state = 1 then 'wait' when t.state in (2, 3) then 'inprog' else 'queued' end),
       i.input, o.result,
       case o.status when 'expired' then '[{"msgid":30,"errcode":"expired","text":"the batch expired before the row could end"}]'::json
                     else l.messages end,
       case when o.status is null then nullif(greatest(l.attempt, t.attempt, 0), 0) else o.attempt end,
       o.at
  from inputs i
  join batches b on b.id = of_batch and b.state <> 0 and b.purged_at is null and of_no < b.blocks
  left join outcomes o on o.ordinal in (i.ordinal, -1)
  left join latest l on l.ordinal = i.ordinal
  left join tasks t on o.status is null and t.ordinal in (i.ordinal, -1);
end;
