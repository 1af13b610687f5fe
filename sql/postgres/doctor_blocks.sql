-- What the blocks of a batch come to. Params: 1 batch, 2 how many count.
-- Returns: those that count, their rows, the last of them, those beyond that no open append has written. Locks: none.
select count(*) filter (where k.no < $2::integer), coalesce(sum(k.rows) filter (where k.no < $2::integer), 0)::bigint,
       coalesce(max(k.no) filter (where k.no < $2::integer), -1),
       count(*) filter (where k.no >= $2::integer and not exists (select 1 from appends a where a.batch = $1 and a.token is not null and a.first_no <= k.no))
  from blocks k where k.batch = $1
