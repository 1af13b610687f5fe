-- Resumes an op. Params: 1 id. Returns: nothing; no change = it was not paused. Locks: the op's record.
update ops set paused = false where id = $1 and paused
