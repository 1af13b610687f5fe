-- Batches by id, for a look at what is stored of each; those being loaded or removed are left out. Params: 1 after this id, 2 limit.
-- Returns: id, state, rows, blocks, purged, success, failed, aborted, expired, looked at, context can be read. Locks: none.
select id, state, rows, blocks, purged_at is not null, nsuccess, nfailed, naborted, nexpired, state <> 0 and not purging, json_valid(context)
  from batches where id > $1 order by id limit $2::bigint
