-- How often an op's row may be lost: as it is set here, else as a process registered it. A number that was written as `+5` is a text.
-- Params: 1 op. Returns: max_lost. Locks: none.
select coalesce(cast(json_extract(settings, '$.max_lost') as integer), max_lost) from ops where id = ?1
