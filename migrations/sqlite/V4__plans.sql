-- What the plans stand on, and ends of batches that write no entry into any index.

-- In a batch's own order, so that the tasks of one batch (whose age is one) are found in it as well as those of the oldest.
drop index queue_oldest;
create index queue_oldest on queue (op, age, batch, turn, id) where state = 1 and what = 0;

-- The end of a batch changes `state`, its counts, `started_at` and `done_at`: none of them stands in an index or in the condition of one.
drop index batches_expire;
create index batches_expire on batches (expires_at) where expires_at is not null and expire_done = 0;
drop index batches_giving;
create index batches_giving on batches (id) where given > 0 and given < blocks;
drop index batches_loading;
create index batches_loading on batches (loaded_at) where loaded_at is not null;
drop index batches_ended;
create index batches_of_op on batches (op, created_at) where purged_at is null;

-- An ended batch is seen to, whatever its time.
update batches set expire_done = 1 where state >= 4 and expires_at is not null and expire_done = 0;
