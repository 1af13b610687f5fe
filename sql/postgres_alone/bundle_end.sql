-- Removes bundles all of whose tasks have ended. Params: 1 bundles. Returns: nothing. Locks: their records, which it removes.
delete from queue q using unnest($1::uuid[]) through (bundle) where q.batch = through.bundle and q.id = 9223372036854775806 and q.what = 2 and q.success >= q.rows
