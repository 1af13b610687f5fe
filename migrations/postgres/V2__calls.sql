-- Appends, purge, retries, and which worker serves which op.

-- Set before a batch's rows are purged; what is left then is a tombstone: its names, counts and hash.
alter table batches add column purged_at timestamptz;
-- Set while rows of a purged batch are still being removed.
alter table batches add column purging boolean not null default false;

-- Microseconds that an op's ended batches are kept; null = until somebody purges them.
alter table ops add column keep_for bigint;

-- A tombstone is in no list, and is not looked at by the next purge.
drop index batches_created;
create index batches_created on batches (created_at, id) where purged_at is null;
create index batches_purged on batches (purged_at) where purged_at is not null;
create index batches_purging on batches (id) where purging;
-- What a purge looks for, and those that wait to be told, which it waits for.
-- batches_ended costs an entry at the end, which is not HOT for it (nor would it be for `state` in the conditions of others).
create index batches_ended on batches (op, done_at, id) where done_at is not null and purged_at is null;
create index notices_batch on notices (batch);
create index batches_parent on batches (parent) where parent is not null;

-- What was added to held batches. While it is being loaded its blocks lie beyond `batches.blocks` and do not count.
create table appends (
    batch      uuid not null,
    first_no   integer not null,                      -- its first block
    key        text,                                  -- the caller's; null = its content and its place tell a repeat
    after_line integer not null,                      -- the batch's last line before it
    first_line integer not null default 0,
    last_line  integer not null,
    rows       bigint not null default 0,
    bytes      bigint not null default 0,
    blocks     integer not null default 0,
    hash       bytea,                                 -- SHA-256 of its rows as they were given, once it counts
    by         text not null,
    at         timestamptz not null,                  -- when it began, or its last piece came, or it was acknowledged
    token      bigint,                                -- its loader's, until it counts
    constraint appends_hash_iff_counted check ((hash is null) = (token is not null)),
    primary key (batch, first_no)
);

create unique index appends_key on appends (batch, key) where key is not null;
create unique index appends_open on appends (batch) where token is not null;

-- The ops that a worker works on, from its entry until it ends or is taken over.
create table worker_ops (
    worker bigint not null,
    op     bigint not null,
    batch  uuid,                                      -- works on this batch alone
    notify boolean not null,                          -- tells the op's ends
    primary key (worker, op)
);

create index worker_ops_of on worker_ops (op);

-- So that an op's tasks that are due later are counted without a look at those of others.
create index queue_later on queue (op) where state = 0 and what = 0;
