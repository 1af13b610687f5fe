-- Ends rows of a block that was given to no task. Params: 1 batch, 2 no, 3 ended_as, 4 now, 5 how many, 6 which. Returns: nothing. Locks: the new record.
insert into attempts (batch, no, task, attempt, part, at, ended_as, ended, rest, body)
values ($1, $2::integer, $2::integer, 0, 1, $4, $3, $5, $6, '')
