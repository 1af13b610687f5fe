-- Finds an external id. Params: 1 app, 2 external id. Returns: batch, hash. Locks: none.
select batch, hash from external_ids where app = $1 and external_id = $2
