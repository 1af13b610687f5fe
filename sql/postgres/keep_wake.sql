-- Moves due tasks: later → queued, at most 10,000. Params: 1 now. Returns: nothing. Locks: the tasks' records; those that others hold are skipped.
-- No second look at the state: the first has locked what it found, and with it the planner would leave the key.
with due as materialized (
    select batch, id from queue where state in (0, 3) and state = 0 and due_at <= $1 order by due_at limit 10000 for update skip locked)
update queue q set state = 1, due_at = null from due where q.batch = any (array[due.batch]) and q.id = due.id
