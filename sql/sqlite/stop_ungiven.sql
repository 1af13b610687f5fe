-- Ends the rows of blocks that were given to no task. Params: 1 batch, 2 ended_as, 3 now. Returns: nothing. Locks: the file.
insert or fail into attempts (batch, no, task, attempt, part, at, ended_as, ended, rest, body)
select b.batch, b.no, b.no, 0, 1, ?3, ?2, b.rows - b.rejected,
       case when b.rejected = 0 then null else
         (select json_group_array(n.value) from (with recursive n(value) as (select 0 union all select value + 1 from n where value + 1 < b.rows) select value from n) n
           where not exists (select 1 from attempts a, json_each(a.ordinals) o where a.batch = b.batch and a.no = b.no and a.ended_as = 6 and o.value = n.value)) end, ''
  from blocks b join batches t on t.id = b.batch
 where b.batch = ?1 and b.no >= t.given and b.no < t.blocks and b.rows > b.rejected
