-- Ops whose ended batches are kept for a while and then purged. Params: none. Returns: id, keep_for. Locks: none.
select id, keep_for from ops where keep_for is not null order by id
