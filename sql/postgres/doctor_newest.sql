-- The latest of the times that are found without passing over many records. Params: none. Returns: time. Locks: none.
select greatest((select max(created_at) from batches where purged_at is null), (select at from audit order by id desc limit 1),
                (select started_at from workers order by no desc limit 1), to_timestamp(0))
