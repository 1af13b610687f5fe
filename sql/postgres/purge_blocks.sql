-- Removes blocks of a batch that is being purged. Params: 1 batch (being purged, checked by the caller), 2 how many. Returns: nothing. Locks: the records of the blocks.
delete from blocks where ctid = any (array(select ctid from blocks where batch = $1 limit $2::bigint))
