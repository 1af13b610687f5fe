-- Workers that have not ended, and those that have but still own running tasks: a take-over skips one that somebody holds, and is gone on with. Params: none. Returns: no, lock. Locks: none.
-- The second part finds nothing but a worker whose take-over is not through.
select no, lock from workers where ended_at is null
union all
select no, lock from workers where ended_at is not null and no in (select worker from queue where state = 2)
