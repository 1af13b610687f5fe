-- Removes blocks of a batch that is being purged. Params: 1 batch (being purged, checked by the caller), 2 how many. Returns: nothing. Locks: the records of the blocks.
delete from blocks where batch = $1
   and no <= (select max(no) from (select no from blocks where batch = $1 order by no limit $2::bigint) first)
