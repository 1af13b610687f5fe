-- Sets an op's settings. Params: 1 id, 2 settings before, 3 settings after. Returns: nothing; no change = they were others.
-- Locks: the op's record.
update ops set settings = $3 where id = $1 and settings is not distinct from $2
