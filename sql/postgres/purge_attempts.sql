-- Removes attempts of a batch that is being purged. Params: 1 batch (being purged, checked by the caller), 2 how many. Returns: nothing. Locks: the records of the attempts.
delete from attempts where ctid = any (array(select ctid from attempts where batch = $1 limit $2::bigint))
