-- The task that a claim holds, under its token and worker.
-- Params: 1 batch, 2 id, 3 token, 4 worker.
-- Returns: no, op, priority, turn, age, rows, pick, attempt, losses, started_at, suspect. Locks: the task's record.
-- `is not distinct from` keeps the planner off the index of all that the worker runs.
select no, op, priority, turn, age, rows, pick, attempt, losses, started_at, suspect from queue
 where batch = $1 and id = $2 and state is not distinct from 2 and token = $3 and worker = $4 for no key update
