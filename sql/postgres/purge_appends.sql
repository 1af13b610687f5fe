-- Removes what is known of the appends of a batch that is being purged. Params: 1 batch (being purged, checked by the caller), 2 how many. Returns: nothing. Locks: the appends' records.
delete from appends where batch = $1 and first_no in (select first_no from appends where batch = $1 limit $2::bigint)
