-- What the plans stand on, and ends of batches that write no entry into any index.

-- In a batch's own order, so that the tasks of one batch (whose age is one) are found in it as well as those of the oldest.
drop index queue_oldest;
create index queue_oldest on queue (op, age, batch, turn, id) where state = 1 and what = 0;

-- What the indexes cost. The end of a batch changes `state`, its counts, `started_at` and `done_at`: none of them stands in an index or in
-- the condition of one, so that it is HOT, for which a fifth of each page is kept free. Where a time is set, the end also says that it
-- has been seen to, which is not HOT.
-- batches_expire: an entry only where a time is set.
drop index batches_expire;
create index batches_expire on batches (expires_at) where expires_at is not null and not expire_done;
-- batches_giving: as many entries as batches are being given; one that is held has given none.
drop index batches_giving;
create index batches_giving on batches (id) where given > 0 and given < blocks;
-- batches_loading: as many entries as loads are open.
drop index batches_loading;
create index batches_loading on batches (loaded_at) where loaded_at is not null;
-- batches_of_op: an entry at the submit; its columns change when a load becomes a batch, and at the purge.
drop index batches_ended;
create index batches_of_op on batches (op, created_at, id) where purged_at is null;

-- An ended batch is seen to, whatever its time.
update batches set expire_done = true where state >= 4 and expires_at is not null and not expire_done;

-- In the order in which they are claimed; and those of a worker that goes are found.
drop index notices_due;
create index notices_due on notices (op, due_at, id) where worker is null;
create index notices_owner on notices (worker) where worker is not null;

alter table batches set (fillfactor = 80);
-- A worker notes every few seconds that it lives, a notice is claimed and removed.
alter table workers set (fillfactor = 50);
alter table notices set (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 10000,
    -- As with `queue`: one that shrank to nothing would be read from end to end when it has grown again.
    vacuum_truncate = false
);
