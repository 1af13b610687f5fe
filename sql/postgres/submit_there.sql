-- Which of these batches are there, a load too. Params: 1 ids. Returns: id. Locks: none.
select b.id from unnest($1::uuid[]) asked (id) cross join lateral (select id from batches where id = asked.id offset 0) b
