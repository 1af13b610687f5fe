-- What the blocks of a batch come to. Params: 1 batch, 2 how many count.
-- Returns: those that count, their rows, the last of them, those beyond that no open append has written. Locks: none.
select coalesce(sum(k.no < ?2), 0), coalesce(sum(case when k.no < ?2 then k.rows end), 0), coalesce(max(case when k.no < ?2 then k.no end), -1),
       coalesce(sum(k.no >= ?2 and not exists (select 1 from appends a where a.batch = ?1 and a.token is not null and a.first_no <= k.no)), 0)
  from blocks k where k.batch = ?1
