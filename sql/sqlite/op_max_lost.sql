-- How often an op's row may be lost: as it is set here, else as a process registered it. Params: 1 op. Returns: max_lost. Locks: none.
select coalesce(json_extract(settings, '$.max_lost'), max_lost) from ops where id = ?1
