-- The ops that are paused or have settings set here. Params: none. Returns: id, paused, settings. Locks: none.
select id, paused, settings from ops where paused or settings is not null
