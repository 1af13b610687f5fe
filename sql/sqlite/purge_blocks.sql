-- Removes blocks of a batch that is being purged. Params: 1 batch (being purged, checked by the caller), 2 how many. Returns: nothing. Locks: the file.
delete from blocks where rowid in (select rowid from blocks where batch = ?1 limit ?2)
