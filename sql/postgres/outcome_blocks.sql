-- The next blocks of a batch that count, in order, with how many bytes their outcomes have. Params: 1 batch, 2 from block, 3 limit. Returns: no, bytes.
-- Locks: none.
select b.no, (select coalesce(sum(octet_length(a.body)), 0)::bigint from attempts a where a.batch = b.batch and a.no = b.no)
  from blocks b where b.batch = $1 and b.no >= $2 and b.no < (select blocks from batches where id = $1) order by b.no limit $3::bigint
