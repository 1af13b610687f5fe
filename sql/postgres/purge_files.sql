-- Removes the names of output files of a batch that is being purged. Params: 1 batch (being purged, checked by the caller), 2 how many. Returns: nothing. Locks: the files' records.
delete from files where batch = $1 and name in (select name from files where batch = $1 limit $2::bigint)
