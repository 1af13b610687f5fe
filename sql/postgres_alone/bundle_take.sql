-- Claims bundles with all their tasks, and what a processor must know of each: queued → running.
-- Params: 1 bundles, 2 token, 3 worker, 4 now. Returns: bundle, its batches; in their order: first_line, body, context, root, generation, whether it is open and nothing ends it early.
-- Locks: the bundles' records.
-- `offset 0`: each batch and block is looked up by its key, whatever the planner believes of how many there are. One record of lists for each bundle: a record for each task costs both sides more.
with taken as (
    update queue q set state = 2, attempt = 1, token = $2, worker = $3, started_at = $4
      from unnest($1::uuid[]) with ordinality asked (bundle, place)
     where q.batch = any (array[asked.bundle]) and q.id is not distinct from 9223372036854775806 and q.state is not distinct from 1
    returning q.batch, q.members, asked.place)
select t.batch, of.* from taken t
 cross join lateral (
    select array_agg(m.id), array_agg(k.first_line), array_agg(k.body), array_agg(b.context), array_agg(b.root), array_agg(b.generation),
           array_agg(b.state = 2 and b.abort_at is null and b.expires_at is null)
      from unnest(t.members) with ordinality m (id, place)
     cross join lateral (select first_line, body from blocks where batch = m.id and no = 0 offset 0) k
     cross join lateral (select context, root, generation, state, abort_at, expires_at from batches where id = m.id offset 0) b) of
