-- Stores a notice where a receiver is registered. Params: 1 batch, 2 op, 3 now. Returns: nothing. Locks: the new record.
insert into notices (batch, op, at, due_at)
select $1::uuid, id, $3::timestamptz, $3::timestamptz from ops where id = $2 and notify
