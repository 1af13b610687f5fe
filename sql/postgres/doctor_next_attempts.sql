-- The next batch that has attempts. Params: 1 after this batch. Returns: batch. Locks: none.
select batch from attempts where batch > $1 order by batch limit 1
