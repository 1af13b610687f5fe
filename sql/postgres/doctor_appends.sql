-- Appends that are being loaded and were silent. Params: 1 silent since before, 2 limit. Returns: batch. Locks: none.
select batch from appends where token is not null and at < $1 limit $2::bigint
