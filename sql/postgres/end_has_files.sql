-- Whether a batch has text for output files. Params: 1 batch. Returns: 1. Locks: none.
select 1 from attempts where batch = $1 and files limit 1
