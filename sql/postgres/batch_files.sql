-- A batch's output files. Params: 1 batch. Returns: name, key, size, sha256, content_type. Locks: none.
select name, key, size, sha256, content_type from files where batch = $1 order by name
