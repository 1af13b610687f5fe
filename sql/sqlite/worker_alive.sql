-- Whether a worker may write. Params: 1 worker. Returns: 1. Locks: none.
select 1 from workers where no = ?1 and ended_at is null
