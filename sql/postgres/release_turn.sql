-- The smallest turn that is queued in an op at a priority. Params: 1 op, 2 priority. Returns: turn. Locks: none.
select turn from ((select turn from queue where op = $1 and priority = $2 and state = 1 and what = 0 order by turn limit 1)
                  union all
                  (select turn from queue where op = $1 and priority = $2 and state = 1 and what = 2 order by turn limit 1)) first order by turn limit 1
