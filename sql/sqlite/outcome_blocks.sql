-- The bytes of the outcomes of a batch's next blocks that count, in order. Params: 1 batch, 2 from block, 3 limit. Returns: no, bytes. Locks: none.
select k.no, coalesce((select sum(octet_length(a.body) + 64) from attempts a where a.batch = k.batch and a.no = k.no), 0)
  from blocks k where k.batch = ?1 and k.no >= ?2 and k.no < (select blocks from batches where id = ?1) order by k.no limit ?3
