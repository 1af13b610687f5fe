-- Removes attempts of a batch that is being purged. Params: 1 batch (being purged, checked by the caller), 2 how many. Returns: nothing. Locks: the file.
delete from attempts where rowid in (select rowid from attempts where batch = ?1 limit ?2)
