-- Notes an output file. Params: 1 batch, 2 name, 3 key, 4 size, 5 sha256, 6 content type. Returns: nothing. Locks: the new record.
insert into files (batch, name, key, size, sha256, content_type) values ($1, $2, $3, $4, $5, $6)
