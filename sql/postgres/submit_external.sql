-- Remembers an external id. Params: 1 app, 2 external id, 3 batch, 4 hash, 5 now. Returns: nothing.
-- Locks: the new record.
insert into external_ids (app, external_id, batch, hash, created_at) values ($1, $2, $3, $4, $5)
