-- The next batch that has files. Params: 1 after this batch. Returns: batch. Locks: none.
select batch from files where batch > $1 order by batch limit 1
