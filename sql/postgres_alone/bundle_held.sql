-- The bundles that a worker runs. Params: 1 worker. Returns: bundle. Locks: their records; those that others hold are skipped.
select batch from queue where worker = $1 and state = 2 and what = 2 for update skip locked
