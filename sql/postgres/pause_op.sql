-- Pauses an op. Params: 1 id. Returns: nothing; no change = it was paused. Locks: the op's record.
update ops set paused = true where id = $1 and not paused
