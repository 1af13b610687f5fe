-- What a role needs that runs rowmill and neither makes nor changes a table; run by the owner of the tables, again after every `rowmill migrate`.
-- Params: ROLE and SCHEMA, names in the text. Returns: nothing. Locks: the records of the catalogue.
grant usage on schema "SCHEMA" to "ROLE";
grant select on all tables in schema "SCHEMA" to "ROLE";
grant insert, update on "SCHEMA".ops, "SCHEMA".workers to "ROLE";
grant insert, update, delete on "SCHEMA".batches, "SCHEMA".queue, "SCHEMA".attempts, "SCHEMA".notices, "SCHEMA".appends to "ROLE";
grant insert, delete on "SCHEMA".blocks, "SCHEMA".files, "SCHEMA".external_ids, "SCHEMA".worker_ops to "ROLE";
-- What was given is written once; a row's texts alone are taken away where somebody asks for that.
grant update (format, key_id, body, body_bin) on "SCHEMA".blocks to "ROLE";
-- What was done is never changed.
grant insert on "SCHEMA".audit to "ROLE";
