-- The next batch that has blocks. Params: 1 after this batch. Returns: batch. Locks: none.
select batch from blocks where batch > $1 order by batch limit 1
