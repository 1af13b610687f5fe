-- The next batch that has appends. Params: 1 after this batch. Returns: batch. Locks: none.
select batch from appends where batch > $1 order by batch limit 1
