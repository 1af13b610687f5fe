-- For a person: every row with what became of it, as `rows` says it. No code of ours reads these; they unfold whole blocks.

-- The rows of one block.
create function blockrows(of_batch uuid, of_no integer)
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

create view batchrows (batch, line, status, input, result, messages, attempt, done_at) as
select r.batch, r.line, r.status, r.input, r.result, r.messages, r.attempt, r.done_at
  from blocks k cross join lateral blockrows(k.batch, k.no) r;

-- One row of a batch, by its line: unfolds one block where the view unfolds all.
create function batchrow(of_batch uuid, of_line integer)
returns table (batch uuid, line integer, status text, input json, result json, messages json, attempt integer, done_at timestamptz)
language sql stable parallel safe
begin atomic
select r.batch, r.line, r.status, r.input, r.result, r.messages, r.attempt, r.done_at
  from blockrows(of_batch, coalesce((select k.no from blocks k where k.batch = of_batch and k.no > 0
                                        and k.no < (select b.blocks from batches b where b.id = of_batch) and k.first_line <= of_line
                                      order by k.first_line desc limit 1), 0)) r
 where r.line = of_line;
end;
