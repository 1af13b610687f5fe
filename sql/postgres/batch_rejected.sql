-- Rows of a batch that were refused at intake. Params: 1 batch. Returns: how many. Locks: none.
select coalesce(sum(rejected), 0)::bigint from blocks where batch = $1 and no < (select blocks from batches where id = $1)
