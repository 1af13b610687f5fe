-- The first schema: blocks, tasks and attempts, and the columns that are dear to add later.
-- Times are microseconds since 1970-01-01 UTC. States, kinds and ends are the codes of src/model.

create table meta (
    key   text primary key,
    value text not null
) strict, without rowid;

insert into meta (key, value) values ('schema', '1'), ('min_writer', '1'), ('epoch', lower(hex(randomblob(8))));

create table ops (
    id         integer primary key,
    app        text not null,
    op         text not null,
    kind       integer not null,
    paused     integer not null default 0,
    settings   text,                                  -- JSON: what was set here over the processes' own
    notify     integer not null default 0,            -- a receiver of ends is registered
    max_lost   integer not null default 3,
    created_at integer not null,
    constraint ops_are_in_lower_case check (op = lower(op)),
    constraint ops_key unique (app, op, kind)
) strict;

-- What an app has queued and may queue; where there is no record there is no limit.
create table apps (
    app          text primary key,
    queued_rows  integer not null default 0,
    queued_bytes integer not null default 0,
    max_rows     integer,
    max_bytes    integer
) strict, without rowid;

create table workers (
    no         integer primary key autoincrement,     -- never used again
    lock       text not null,                         -- the file whose lock is this worker's life
    host       text not null,
    pid        integer not null,
    version    text not null,
    started_at integer not null,
    ended_at   integer
) strict;

create index workers_alive on workers (no) where ended_at is null;

create table batches (
    id          blob primary key,
    op          integer not null,
    state       integer not null,
    context     text not null,
    priority    integer not null,
    tenant      text not null default '',
    root        blob not null,
    parent      blob,
    generation  integer not null default 0,
    external_id text,
    created_by  text not null,
    created_at  integer not null,
    run_at      integer,
    expires_at  integer,
    expire_done integer not null default 0,
    started_at  integer,
    done_at     integer,
    abort_at    integer,
    aborted_by  text,
    rows        integer not null default 0,
    bytes       integer not null default 0,
    blocks      integer not null default 0,           -- blocks that count: a row of a later one was not acknowledged
    given       integer not null default 0,           -- blocks whose tasks were made
    first_blocks integer not null default 0,          -- blocks of the first submission: what `hash` is of
    last_line   integer not null default 0,
    nsuccess    integer,
    nfailed     integer,
    naborted    integer,
    nexpired    integer,
    hash        blob,                                 -- SHA-256 of the rows as first submitted, where it was asked for
    columns     text,                                 -- JSON: a CSV's column names
    load_token  integer,
    loaded_at   integer,
    keep_until  integer,
    max_failed  integer,
    lane        integer,
    constraint batches_done_at_iff_ended check ((done_at is not null) = (state >= 4)),
    constraint batches_counts_iff_ended check ((nsuccess is not null) = (state >= 4)),
    constraint batches_counts_add_up check (state < 4 or nsuccess + nfailed + naborted + nexpired = rows)
) strict, without rowid;

create index batches_created on batches (created_at);
create index batches_expire on batches (expires_at) where expires_at is not null and state in (1, 2) and expire_done = 0;
create index batches_giving on batches (id) where state = 2 and given < blocks;
create index batches_loading on batches (loaded_at) where state = 0;

create table blocks (
    batch      blob not null,
    no         integer not null,
    first_line integer not null,
    rows       integer not null,
    rejected   integer not null default 0,
    lines      text,                                  -- JSON: every row's line where there are gaps
    format     integer not null default 0,            -- 0 text; others are in body_bin
    key_id     text,
    body       text,
    body_bin   blob,
    constraint blocks_one_body check ((body is null) <> (body_bin is null)),
    primary key (batch, no)
) strict;

-- A one-block batch needs no index to find its lines.
create index blocks_lines on blocks (batch, first_line) where no > 0;

create table queue (
    batch      blob not null,
    id         integer not null,
    no         integer not null,
    what       integer not null,                      -- 0 rows, 1 close
    op         integer not null,
    state      integer not null,
    priority   integer not null,
    turn       integer not null,
    age        integer not null,
    due_at     integer,
    rows       integer not null,
    pick       text,                                  -- JSON: ordinals; null = all rows of the block
    attempt    integer not null default 0,
    token      integer,
    worker     integer,
    failures   integer not null default 0,
    losses     integer not null default 0,
    laters     integer not null default 0,
    suspect    integer not null default 0,            -- 1 a worker died with it, 2 each row may start only once
    row_now    integer,
    lane       integer,
    tenant     text not null default '',
    started_at integer,
    success    integer not null default 0,            -- a close task's: rows of the batch that ended so far
    failed     integer not null default 0,
    error      text,                                  -- a close task's: why its last attempt failed
    constraint queue_running_iff_claimed check ((state in (2, 3)) = (token is not null)),
    constraint queue_worker_iff_running check ((state = 2) = (worker is not null)),
    constraint queue_due_iff_later check (state <> 0 or due_at is not null),
    primary key (batch, id)
) strict, without rowid;

create index queue_ready on queue (op, priority desc, turn, batch, id) where state = 1 and what = 0;
create index queue_oldest on queue (op, age, batch, id) where state = 1 and what = 0;
create index queue_owner on queue (worker) where state = 2;
create index queue_due on queue (due_at) where state in (0, 3);
create index queue_close on queue (batch) where what = 1 and state = 1;

create table attempts (
    batch      blob not null,
    no         integer not null,
    task       integer not null,
    attempt    integer not null,
    part       integer not null,
    worker     integer,
    token      integer,
    started_at integer,
    at         integer not null,
    ended_as   integer,                               -- null while the attempt goes on
    success    integer not null default 0,
    failed     integer not null default 0,
    ended      integer not null default 0,            -- rows that ended by ended_as alone
    files      integer not null default 0,            -- has text for output files
    ordinals   text,                                  -- JSON: the rows of the body's lines; null = 0, 1, 2, …
    rest       text,                                  -- JSON: the rows that ended by ended_as; null = all of the block, if any
    format     integer not null default 0,
    key_id     text,
    body       text,
    body_bin   blob,
    primary key (batch, no, task, attempt, part)
) strict;

create index attempts_files on attempts (batch) where files = 1;

create table files (
    batch        blob not null,
    name         text not null,
    key          text not null,
    size         integer not null,
    sha256       text not null,
    content_type text not null,
    primary key (batch, name)
) strict, without rowid;

create table notices (
    id       integer primary key autoincrement,       -- the event's id for its receiver: never used again
    batch    blob not null,
    op       integer not null,
    at       integer not null,
    due_at   integer not null,
    attempts integer not null default 0,
    token    integer,
    worker   integer
) strict;

create index notices_due on notices (op, due_at) where worker is null;

create table external_ids (
    app         text not null,
    external_id text not null,
    batch       blob not null,
    hash        blob not null,
    created_at  integer not null,
    primary key (app, external_id)
) strict, without rowid;

create table audit (
    id     integer primary key,
    at     integer not null,
    by     text not null,
    what   text not null,
    batch  blob,
    op     integer,
    detail text
) strict;

create trigger audit_is_append_only before update on audit begin select raise(abort, 'audit is append-only'); end;
create trigger audit_keeps_everything before delete on audit begin select raise(abort, 'audit is append-only'); end;
-- A body alone may be rewritten, by the one statement that redacts a row.
create trigger blocks_are_written_once before update of batch, no, first_line, rows, rejected, lines on blocks
begin select raise(abort, 'blocks are written once'); end;

-- For a person: every row with what became of it. No code of ours reads it; it unfolds whole batches.
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
    select a.batch, a.no, e.value, case a.ended_as when 5 then 'expired' else 'aborted' end, null, null, a.attempt, a.at
      from attempts a, json_each(a.rest) e where a.ended > 0 and a.rest is not null
    union all
    select a.batch, a.no, -1, case a.ended_as when 5 then 'expired' else 'aborted' end, null, null, a.attempt, a.at
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
  join batches b on b.id = i.batch and b.state <> 0 and i.no < b.blocks
  left join outcomes o on o.batch = i.batch and o.no = i.no and (o.ordinal = i.ordinal or o.ordinal = -1);
