-- Sets an op's settings. Params: 1 id, 2 settings before, 3 settings after. Returns: nothing; no change = they were others.
-- Locks: the file.
update or fail ops set settings = ?3 where id = ?1 and settings is ?2
