-- Whether anything is left of a purged batch. Params: 1 batch. Returns: 1. Locks: none.
select 1 where exists (select 1 from blocks where batch = $1) or exists (select 1 from attempts where batch = $1)
    or exists (select 1 from files where batch = $1) or exists (select 1 from appends where batch = $1)
