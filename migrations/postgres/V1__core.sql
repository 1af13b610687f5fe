-- The first schema: blocks, tasks and attempts, and the columns that are dear to add later.
-- It lives in the schema that comes first in the connection's search_path; no name here says which.
-- States, kinds and ends are the codes of src/model. Names of apps and ops sort by their bytes, as they do in SQLite.

create table meta (
    key   text primary key,
    value text not null
);

insert into meta (key, value)
values ('schema', '1'), ('min_writer', '1'), ('epoch', right(replace(gen_random_uuid()::text, '-', ''), 16));

create table ops (
    id         bigint generated always as identity primary key,
    app        text collate "C" not null,
    op         text collate "C" not null,
    kind       smallint not null,
    paused     boolean not null default false,
    settings   text,                                  -- JSON: what was set here over the processes' own
    notify     boolean not null default false,        -- a receiver of ends is registered
    max_lost   integer not null default 3,
    created_at timestamptz not null,
    constraint ops_are_in_lower_case check (op = lower(op)),
    constraint ops_key unique (app, op, kind)
);

-- What an app has queued and may queue; where there is no record there is no limit.
create table apps (
    app          text collate "C" primary key,
    queued_rows  bigint not null default 0,
    queued_bytes bigint not null default 0,
    max_rows     bigint,
    max_bytes    bigint
);

create table workers (
    no          bigint generated always as identity primary key,   -- never used again
    lock        text not null,                        -- the lock that is this worker's life
    host        text not null,
    pid         bigint not null,
    version     text not null,
    started_at  timestamptz not null,
    ended_at    timestamptz,
    beat_at     timestamptz not null,                 -- when it was last heard of
    incarnation text not null default '',
    backend     integer                               -- the server process that holds its lock
);

create index workers_alive on workers (no) where ended_at is null;

create table batches (
    id           uuid primary key,
    op           bigint not null,
    state        smallint not null,
    context      text not null,
    priority     integer not null,
    tenant       text not null default '',
    root         uuid not null,
    parent       uuid,
    generation   integer not null default 0,
    external_id  text,
    created_by   text not null,
    created_at   timestamptz not null,
    run_at       timestamptz,
    expires_at   timestamptz,
    expire_done  boolean not null default false,
    started_at   timestamptz,
    done_at      timestamptz,
    abort_at     timestamptz,
    aborted_by   text,
    rows         bigint not null default 0,
    bytes        bigint not null default 0,
    blocks       integer not null default 0,          -- blocks that count: a row of a later one was not acknowledged
    given        integer not null default 0,          -- blocks whose tasks were made
    first_blocks integer not null default 0,          -- blocks of the first submission: what `hash` is of
    last_line    integer not null default 0,
    nsuccess     bigint,
    nfailed      bigint,
    naborted     bigint,
    nexpired     bigint,
    hash         bytea,                               -- SHA-256 of the rows as first submitted, where it was asked for
    columns      text,                                -- JSON: a CSV's column names
    load_token   bigint,
    loaded_at    timestamptz,
    keep_until   timestamptz,
    max_failed   bigint,
    lane         integer,
    constraint batches_done_at_iff_ended check ((done_at is not null) = (state >= 4)),
    constraint batches_counts_iff_ended check ((nsuccess is not null) = (state >= 4)),
    constraint batches_counts_add_up check (state < 4 or nsuccess + nfailed + naborted + nexpired = rows)
);

-- What the indexes cost. An update of a column that stands in any index of the table, or in its condition, writes a new
-- entry into every index whose condition the record meets (it is not HOT); any other update writes none. A claim and a
-- record of outcomes do not touch `batches` at all. What is left:
-- batches_created: an entry at the submit; its columns change only when a load becomes a batch, and at the purge.
create index batches_created on batches (created_at, id);
-- batches_expire: an entry only where a time is set. Its condition has `state`, so that release and end are not HOT; without
-- it each look for expired batches would pass over all that ever had a time.
create index batches_expire on batches (expires_at) where expires_at is not null and state in (1, 2) and not expire_done;
-- batches_giving: as many entries as batches are being given. A step of giving (up to thousands of tasks) is not HOT.
create index batches_giving on batches (id) where state = 2 and given < blocks;
-- batches_loading: as many entries as loads are open. A piece of a load (a transaction of many blocks) is not HOT.
create index batches_loading on batches (loaded_at) where state = 0;

create table blocks (
    batch      uuid not null,
    no         integer not null,
    first_line integer not null,
    rows       integer not null,
    rejected   integer not null default 0,
    lines      integer[],                             -- every row's line where there are gaps
    format     smallint not null default 0,           -- 0 text; others are in body_bin
    key_id     text,
    body       text compression lz4,
    body_bin   bytea,
    constraint blocks_one_body check ((body is null) <> (body_bin is null)),
    primary key (batch, no)
);

-- A one-block batch needs no index to find its lines.
create index blocks_lines on blocks (batch, first_line) where no > 0;

-- No foreign key: it would lock the batch's record at each insert.
create table queue (
    batch      uuid not null,
    id         bigint not null,
    no         integer not null,
    what       smallint not null,                     -- 0 rows, 1 close
    op         bigint not null,
    state      smallint not null,
    priority   integer not null,
    turn       bigint not null,
    age        timestamptz not null,
    due_at     timestamptz,
    rows       integer not null,
    pick       integer[],                             -- ordinals; null = all rows of the block
    attempt    integer not null default 0,
    token      bigint,
    worker     bigint,
    failures   smallint not null default 0,
    losses     smallint not null default 0,
    laters     smallint not null default 0,
    suspect    smallint not null default 0,           -- 1 a worker died with it, 2 each row may start only once
    row_now    integer,
    lane       integer,
    tenant     text not null default '',
    started_at timestamptz,
    success    bigint not null default 0,             -- a close task's: rows of the batch that ended so far
    failed     bigint not null default 0,
    error      text,                                  -- a close task's: why its last attempt failed
    constraint queue_running_iff_claimed check ((state in (2, 3)) = (token is not null)),
    constraint queue_worker_iff_running check ((state = 2) = (worker is not null)),
    constraint queue_due_iff_later check (state <> 0 or due_at is not null),
    primary key (batch, id)
) with (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 10000,
    -- A table that shrank to nothing would be read from end to end by every plan that is made then, also when it has grown again;
    -- and to shrink it locks out everybody.
    vacuum_truncate = false
);

-- What the indexes cost. A change of state is not HOT: a claim writes entries into the primary key and queue_owner, a task
-- that is given back into the primary key and both of queue_ready and queue_oldest. The row that is about to start, and a
-- batch's progress, are in no index: those updates are HOT, for which a fifth of each page is kept free.
create index queue_ready on queue (op, priority desc, turn, batch, id) where state = 1 and what = 0;
create index queue_oldest on queue (op, age, batch, id) where state = 1 and what = 0;
create index queue_owner on queue (worker) where state = 2;
create index queue_due on queue (due_at) where state in (0, 3);
-- One entry for each open batch of many tasks; those that may be claimed are found without a look at the others.
create index queue_close on queue (batch) where what = 1;
create index queue_closable on queue (batch) where what = 1 and state = 1;

create table attempts (
    batch      uuid not null,
    no         integer not null,
    task       bigint not null,
    attempt    integer not null,
    part       integer not null,
    worker     bigint,
    token      bigint,
    started_at timestamptz,
    at         timestamptz not null,
    ended_as   smallint,                              -- null while the attempt goes on
    success    integer not null default 0,
    failed     integer not null default 0,
    ended      integer not null default 0,            -- rows that ended by ended_as alone
    files      boolean not null default false,        -- has text for output files
    ordinals   integer[],                             -- the rows of the body's lines; null = 0, 1, 2, …
    rest       integer[],                             -- the rows that ended by ended_as; null = all of the block, if any
    format     smallint not null default 0,
    key_id     text,
    body       text compression lz4,
    body_bin   bytea,
    primary key (batch, no, task, attempt, part)
);

create index attempts_files on attempts (batch) where files;

create table files (
    batch        uuid not null,
    name         text collate "C" not null,
    key          text not null,
    size         bigint not null,
    sha256       text not null,
    content_type text not null,
    primary key (batch, name)
);

create table notices (
    id       bigint generated always as identity primary key,   -- the event's id for its receiver: never used again
    batch    uuid not null,
    op       bigint not null,
    at       timestamptz not null,
    due_at   timestamptz not null,
    attempts integer not null default 0,
    token    bigint,
    worker   bigint
);

create index notices_due on notices (op, due_at) where worker is null;

create table external_ids (
    app         text collate "C" not null,
    external_id text collate "C" not null,
    batch       uuid not null,
    hash        bytea not null,
    created_at  timestamptz not null,
    primary key (app, external_id)
);

create table audit (
    id     bigint generated always as identity primary key,
    at     timestamptz not null,
    by     text not null,
    what   text not null,
    batch  uuid,
    op     bigint,
    detail text
);

create function refuse() returns trigger language plpgsql as $$
begin
    raise exception '%', tg_argv[0];
end
$$;

create trigger audit_is_append_only before update on audit for each statement execute function refuse('audit is append-only');
create trigger audit_keeps_everything before delete or truncate on audit for each statement execute function refuse('audit is append-only');
-- A body alone may be rewritten, by the one statement that redacts a row.
create trigger blocks_are_written_once before update of batch, no, first_line, rows, rejected, lines on blocks
    for each statement execute function refuse('blocks are written once');

-- Whether a text is JSON; null for null.
create function json_valid(value text) returns boolean language plpgsql immutable strict parallel safe as $$
begin
    perform value::json;
    return true;
exception when others then
    return false;
end
$$;

-- A member of a JSON value as text, for a person: `->>` refuses a value in which `\u0000` stands anywhere, here it is read as U+FFFD.
create function field(value json, variadic path text[]) returns text language sql immutable parallel safe
return case when position('\u0000' in value::text) = 0 then value #>> path
            else regexp_replace(value::text, '(?<!\\)((?:\\\\)*)\\u0000', '\1\\ufffd', 'g')::json #>> path end;

-- A member of a JSON object as it was written: `->` refuses a value in which `\u0000` stands anywhere, as `->>` does.
create function member(value json, name text) returns json language sql immutable parallel safe
return case when position('\u0000' in value::text) = 0 then value -> name
            else replace((regexp_replace(value::text, '(?<!\\)((?:\\\\)*)\\u0000', '\1\\udbff\\udfff\\udbff\\udfff', 'g')::json -> name)::text,
                         '\udbff\udfff\udbff\udfff', '\u0000')::json end;
