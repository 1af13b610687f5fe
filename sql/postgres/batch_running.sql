-- When the first of a batch's running tasks began. They are the first of its tasks, so that few are passed over. Params: 1 batch. Returns: started_at. Locks: none.
-- The bound on id is true of every such task: it keeps the planner on the key's order, so that the first one is enough.
(select started_at from queue where batch = $1 and id >= 0 and state in (2, 3) and what <> 2 order by id limit 1)
union all
-- One that stands with others. `offset 0`: it is looked up by its key.
select q.started_at from batches b cross join lateral (select state, started_at from queue where batch = b.bundle and id = 9223372036854775806 offset 0) q where b.id = $1 and b.state = 2 and q.state = 2
limit 1
