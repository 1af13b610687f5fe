-- Removes bundles all of whose tasks have ended: running → ended. Params: 1 bundles. Returns: nothing. Locks: their records, which it removes.
-- `is not distinct from` keeps the planner off the index of all that the worker runs, and off reading the key for its second column.
delete from queue q using unnest($1::uuid[]) through (bundle) where q.batch = any (array[through.bundle]) and q.id is not distinct from 9223372036854775806 and q.what = 2 and q.state is not distinct from 2 and q.success >= q.rows
