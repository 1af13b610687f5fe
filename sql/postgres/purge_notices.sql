-- Removes notices of a batch that is being purged, for which nobody waits any longer. Params: 1 batch (being purged, checked by the caller), 2 how many. Returns: nothing. Locks: the notices' records.
delete from notices where batch = $1
   and id <= (select max(id) from (select id from notices where batch = $1 order by id limit $2::bigint) first)
