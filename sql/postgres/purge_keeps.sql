-- What tells how long ops keep their ended batches. Params: none. Returns: id, keep_for, settings. Locks: none.
select id, keep_for, settings from ops where keep_for is not null or settings is not null order by id
