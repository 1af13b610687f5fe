-- Removes attempts of a batch that is being purged. Params: 1 batch (being purged, checked by the caller), 2 how many. Returns: nothing. Locks: the records of the attempts.
delete from attempts where batch = $1
   and (no, task, attempt, part) <= (select no, task, attempt, part
                                       from (select no, task, attempt, part from attempts where batch = $1 order by no, task, attempt, part limit $2::bigint) first
                                      order by no desc, task desc, attempt desc, part desc limit 1)
