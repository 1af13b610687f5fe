-- The next block of which a row ended in a way. Params: 1 batch, 2 from block, 3 below block, 4 the state that a batch of such a row ends in. Returns: no. Locks: none.
select no from attempts where batch = ?1 and no >= ?2 and no < ?3
   and case ?4 when 4 then success when 5 then failed when 6 then (ended_as = 4) * ended else (ended_as = 5) * ended end > 0
 order by no limit 1
