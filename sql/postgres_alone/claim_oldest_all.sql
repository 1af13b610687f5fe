-- Claims the next tasks of an op, the oldest batch's first and up to the next that stand together, with their inputs: queued → running. Whether each row may start only once is this claim's to say.
-- Params: 1 op, 2 tasks at most, 3 rows, 4 bytes, 5 worker, 6 token, 7 now, 8 suspect at least.
-- Returns: place, batch, id, no, rows, pick, attempt, failures, laters, suspect before, losses, first_line, lines, body, priority, turn, age, and of the first task the microseconds until it was found.
-- Locks: the tasks' records, those that it does not claim too, and that of what stands together; what others hold is skipped.
-- `offset 0`, `any`: each block and each task is looked up by its key, whatever the planner believes of how many there are. Texts are read of what is
-- claimed alone: what an update is made from is copied whole.
with bundle as materialized (
    select age, batch from queue where op = $1 and state = 1 and what = 2 order by age, batch limit 1 for update skip locked),
ready as materialized (
    select batch, id, no, rows, suspect, age, clock_timestamp() as found_at from queue where op = $1 and state = 1 and what = 0
     order by age, batch, turn, id limit $2::bigint for update skip locked),
fits as materialized (
    select r.batch, r.id, r.suspect, r.found_at, k.first_line, k.lines, row_number() over first as place,
           sum(r.rows) over first - r.rows as rows_before, sum(k.bytes) over first - k.bytes as bytes_before
      from ready r cross join lateral (select first_line, lines, octet_length(body) as bytes from blocks where batch = r.batch and no = r.no offset 0) k
     where not exists (select 1 from bundle b where (b.age, b.batch) < (r.age, r.batch))
    window first as (rows unbounded preceding))
update queue q set state = 2, attempt = q.attempt + 1, token = $6, worker = $5, started_at = $7, row_now = null, suspect = greatest(least(q.suspect, 1), $8::smallint)
  from fits f where q.batch = any (array[f.batch]) and q.id = f.id and f.rows_before < $3::bigint and f.bytes_before < $4::bigint
returning f.place, q.batch, q.id, q.no, q.rows, q.pick, q.attempt, q.failures, q.laters, f.suspect, q.losses, f.first_line, f.lines, (select k.body from blocks k where k.batch = q.batch and k.no = q.no), q.priority, q.turn, q.age,
          case when f.place = 1 then greatest(0, extract(epoch from f.found_at - statement_timestamp()) * 1000000)::bigint end
