-- Claims the next tasks of an op, of one batch alone, with their inputs: queued → running. Whether each row may start only once is this claim's to say.
-- Params: 1 op, 2 tasks at most, 3 rows, 4 bytes, 5 worker, 6 token, 7 now, 8 suspect at least, 9 batch.
-- Returns: place, batch, id, no, rows, pick, attempt, failures, laters, suspect before, losses, first_line, lines, body.
-- Locks: the tasks' records, those that it does not claim too; what others hold is skipped.
-- `offset 0`, `any`: each block and each task is looked up by its key, whatever the planner believes of how many there are. Texts are read of what is
-- claimed alone: what an update is made from is copied whole.
with ready as materialized (
    select batch, id, no, rows, suspect from queue where op = $1 and state = 1 and what = 0 and batch = $9 and age = (select created_at from batches where id = $9)
     order by age, batch, turn, id limit $2::bigint for update skip locked),
fits as materialized (
    select r.batch, r.id, r.suspect, k.first_line, k.lines, row_number() over first as place,
           sum(r.rows) over first - r.rows as rows_before, sum(k.bytes) over first - k.bytes as bytes_before
      from ready r cross join lateral (select first_line, lines, octet_length(body) as bytes from blocks where batch = r.batch and no = r.no offset 0) k
    window first as (rows unbounded preceding))
update queue q set state = 2, attempt = q.attempt + 1, token = $6, worker = $5, started_at = $7, row_now = null, suspect = greatest(least(q.suspect, 1), $8::smallint)
  from fits f where q.batch = any (array[f.batch]) and q.id = f.id and f.rows_before < $3::bigint and f.bytes_before < $4::bigint
returning f.place, q.batch, q.id, q.no, q.rows, q.pick, q.attempt, q.failures, q.laters, f.suspect, q.losses, f.first_line, f.lines, (select k.body from blocks k where k.batch = q.batch and k.no = q.no)
