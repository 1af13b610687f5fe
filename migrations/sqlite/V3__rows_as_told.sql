-- The view for people says of a row what `rows` says: with the messages and attempts of one that goes again.

drop view batchrows;
create view batchrows (batch, line, status, input, result, messages, attempt, done_at) as
with
inputs as (
    select b.batch, b.no, e.key as ordinal,
           case when b.lines is null then b.first_line + e.key else json_extract(b.lines, '$[' || e.key || ']') end as line,
           case when e.type in ('object', 'array') then e.value
                else ('[' || replace(rtrim(b.body, char(10)), char(10), ',') || ']') -> ('$[' || e.key || ']') end as input
      from blocks b, json_each('[' || replace(rtrim(b.body, char(10)), char(10), ',') || ']') e
     where b.format = 0
),
lines as (
    select a.batch, a.no,
           case when a.ordinals is null then e.key else json_extract(a.ordinals, '$[' || e.key || ']') end as ordinal,
           coalesce(e.value ->> 'status', 'success') as status, e.value -> 'result' as result, e.value -> 'messages' as messages,
           a.attempt, a.at
      from attempts a, json_each('[' || replace(rtrim(a.body, char(10)), char(10), ',') || ']') e
     where a.format = 0 and a.body <> ''
),
-- The other columns are those of the line with the highest attempt.
latest as (select batch, no, ordinal, messages, max(attempt) as attempt from lines group by batch, no, ordinal),
outcomes as (
    select batch, no, ordinal, status, result, attempt, at from lines where status not in ('retry', 'later')
    union all
    select a.batch, a.no, e.value, case a.ended_as when 5 then 'expired' else 'aborted' end, null, nullif(a.attempt, 0), a.at
      from attempts a, json_each(a.rest) e where a.ended > 0 and a.rest is not null
    union all
    select a.batch, a.no, -1, case a.ended_as when 5 then 'expired' else 'aborted' end, null, nullif(a.attempt, 0), a.at
      from attempts a where a.ended > 0 and a.rest is null
),
tasks as (
    select q.batch, q.no, q.state, q.attempt, p.value as ordinal from queue q, json_each(q.pick) p where q.what = 0 and q.pick is not null
    union all
    select batch, no, state, attempt, -1 from queue where what = 0 and pick is null
)
select lower(substr(hex(b.id), 1, 8) || '-' || substr(hex(b.id), 9, 4) || '-' || substr(hex(b.id), 13, 4) || '-' || substr(hex(b.id), 17, 4) || '-' || substr(hex(b.id), 21)),
       i.line,
       coalesce(o.status, case when b.state = 1 then 'wait' when t.state in (2, 3) then 'inprog' else 'queued' end),
       i.input, o.result,
       case o.status when 'expired' then '[{"msgid":30,"errcode":"expired","text":"the batch expired before the row could end"}]' else l.messages end,
       case when o.status is null then nullif(max(coalesce(l.attempt, 0), coalesce(t.attempt, 0)), 0) else o.attempt end,
       strftime('%Y-%m-%dT%H:%M:%fZ', o.at / 1000000.0, 'unixepoch')
  from inputs i
  join batches b on b.id = i.batch and b.state <> 0 and b.purged_at is null and i.no < b.blocks
  left join outcomes o on o.batch = i.batch and o.no = i.no and (o.ordinal = i.ordinal or o.ordinal = -1)
  left join latest l on l.batch = i.batch and l.no = i.no and l.ordinal = i.ordinal
  left join tasks t on o.status is null and t.batch = i.batch and t.no = i.no and (t.ordinal = i.ordinal or t.ordinal = -1);
