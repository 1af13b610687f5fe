-- The next block of which a row ended in a way. Params: 1 batch, 2 from block, 3 below block, 4 the state that a batch of such a row ends in. Returns: no. Locks: none.
select no from attempts where batch = $1 and no >= $2 and no < $3
   and case $4::integer when 4 then success when 5 then failed when 6 then case ended_as when 4 then ended end else case ended_as when 5 then ended end end > 0
 order by no limit 1
