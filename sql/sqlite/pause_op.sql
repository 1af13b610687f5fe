-- Pauses an op. Params: 1 id. Returns: nothing; no change = it was paused. Locks: the file.
update or fail ops set paused = 1 where id = ?1 and paused = 0
