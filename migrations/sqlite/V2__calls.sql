-- Appends, purge, retries, and which worker serves which op.

-- Set before a batch's rows are purged; what is left then is a tombstone: its names, counts and hash.
alter table batches add column purged_at integer;
-- 1 while rows of a purged batch are still being removed.
alter table batches add column purging integer not null default 0;

-- Microseconds that an op's ended batches are kept; null = until somebody purges them.
alter table ops add column keep_for integer;

-- A tombstone is in no list, and is not looked at by the next purge.
drop index batches_created;
create index batches_created on batches (created_at) where purged_at is null;
create index batches_purged on batches (purged_at) where purged_at is not null;
create index batches_purging on batches (id) where purging = 1;
-- What a purge looks for, and those that wait to be told, which it waits for.
create index batches_ended on batches (op, done_at) where done_at is not null and purged_at is null;
create index notices_batch on notices (batch);
create index batches_parent on batches (parent) where parent is not null;

-- What was added to held batches. While it is being loaded its blocks lie beyond `batches.blocks` and do not count.
create table appends (
    batch      blob not null,
    first_no   integer not null,                      -- its first block
    key        text,                                  -- the caller's; null = its content and its place tell a repeat
    after_line integer not null,                      -- the batch's last line before it
    first_line integer not null default 0,
    last_line  integer not null,
    rows       integer not null default 0,
    bytes      integer not null default 0,
    blocks     integer not null default 0,
    hash       blob,                                  -- SHA-256 of its rows as they were given, once it counts
    by         text not null,
    at         integer not null,                      -- when it began, or its last piece came, or it was acknowledged
    token      integer,                               -- its loader's, until it counts
    constraint appends_hash_iff_counted check ((hash is null) = (token is not null)),
    primary key (batch, first_no)
) strict, without rowid;

create unique index appends_key on appends (batch, key) where key is not null;
create unique index appends_open on appends (batch) where token is not null;

-- The ops that a worker works on, from its entry until it ends or is taken over.
create table worker_ops (
    worker integer not null,
    op     integer not null,
    batch  blob,                                      -- works on this batch alone
    notify integer not null,                          -- tells the op's ends
    primary key (worker, op)
) strict, without rowid;

create index worker_ops_of on worker_ops (op);

-- So that an op's tasks that are due later are counted without a look at those of others.
create index queue_later on queue (op) where state = 0 and what = 0;
-- As before, without the rows of a batch that is being purged.
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
outcomes as (
    select a.batch, a.no,
           case when a.ordinals is null then e.key else json_extract(a.ordinals, '$[' || e.key || ']') end as ordinal,
           coalesce(e.value ->> 'status', 'success') as status, e.value -> 'result' as result, e.value -> 'messages' as messages,
           a.attempt, a.at
      from attempts a, json_each('[' || replace(rtrim(a.body, char(10)), char(10), ',') || ']') e
     where a.format = 0 and a.body <> '' and coalesce(e.value ->> 'status', 'success') not in ('retry', 'later')
    union all
    select a.batch, a.no, e.value, case a.ended_as when 5 then 'expired' else 'aborted' end, null,
           case a.ended_as when 5 then '[{"msgid":30,"errcode":"expired","text":"the batch expired before the row could end"}]' end, a.attempt, a.at
      from attempts a, json_each(a.rest) e where a.ended > 0 and a.rest is not null
    union all
    select a.batch, a.no, -1, case a.ended_as when 5 then 'expired' else 'aborted' end, null,
           case a.ended_as when 5 then '[{"msgid":30,"errcode":"expired","text":"the batch expired before the row could end"}]' end, a.attempt, a.at
      from attempts a where a.ended > 0 and a.rest is null
)
select lower(substr(hex(b.id), 1, 8) || '-' || substr(hex(b.id), 9, 4) || '-' || substr(hex(b.id), 13, 4) || '-' || substr(hex(b.id), 17, 4) || '-' || substr(hex(b.id), 21)),
       i.line,
       coalesce(o.status, case when b.state = 1 then 'wait' else
           coalesce((select case when q.state in (2, 3) then 'inprog' else 'queued' end from queue q
                      where q.batch = i.batch and q.no = i.no and q.what = 0
                        and (q.pick is null or exists (select 1 from json_each(q.pick) p where p.value = i.ordinal)) limit 1), 'queued') end),
       i.input, o.result, o.messages, o.attempt,
       strftime('%Y-%m-%dT%H:%M:%fZ', o.at / 1000000.0, 'unixepoch')
  from inputs i
  join batches b on b.id = i.batch and b.state <> 0 and b.purged_at is null and i.no < b.blocks
  left join outcomes o on o.batch = i.batch and o.no = i.no and (o.ordinal = i.ordinal or o.ordinal = -1);
