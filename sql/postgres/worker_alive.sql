-- Whether a worker may write. Params: 1 worker. Returns: 1. Locks: the worker's record, shared: it cannot be ended before the caller is done, and its beat is noted meanwhile.
select 1 from workers where no = $1 and ended_at is null for key share
