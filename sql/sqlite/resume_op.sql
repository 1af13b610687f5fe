-- Resumes an op. Params: 1 id. Returns: nothing; no change = it was not paused. Locks: the file.
update or fail ops set paused = 0 where id = ?1 and paused = 1
