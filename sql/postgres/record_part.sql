-- Appends a part of an attempt.
-- Params: 1 batch, 2 no, 3 task, 4 attempt, 5 part, 6 worker, 7 token, 8 started_at, 9 now, 10 ended_as, 11 success, 12 failed, 13 ended, 14 files, 15 ordinals, 16 rest, 17 body. Returns: nothing.
-- Locks: the new record.
insert into attempts (batch, no, task, attempt, part, worker, token, started_at, at, ended_as, success, failed, ended, files, ordinals, rest, body)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
