-- Makes each task of a bundle that has not ended a record of its own, in the state in which they were together. Params: 1 bundle. Returns: nothing; no change = there is none.
-- Locks: the bundle's record, which it removes; the new records.
-- `offset 0`: each batch is looked up by its key.
with gone as (
    delete from queue where batch = $1 and id = 9223372036854775806 and what = 2
    returning op, state, priority, turn, attempt, token, worker, started_at, members)
insert into queue (batch, id, no, what, op, state, priority, turn, age, rows, attempt, token, worker, started_at)
select b.id, 0, 0, 0, g.op, g.state, g.priority, g.turn, b.created_at, 1, g.attempt, g.token, g.worker, g.started_at
  from gone g cross join unnest(g.members) m (id)
 cross join lateral (select id, created_at from batches where id = m.id and state = 2 offset 0) b
