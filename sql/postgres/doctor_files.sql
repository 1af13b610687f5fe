-- Output files of the newest batches. Params: 1 limit. Returns: key, size. Locks: none.
select f.key, f.size from files f where exists (select 1 from batches b where b.id = f.batch and b.purged_at is null) order by f.batch desc, f.name limit $1::bigint
