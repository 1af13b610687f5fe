-- When the oldest batch that has a queued task was made. Params: 1 op. Returns: age. Locks: none.
select age from ((select age from queue where op = $1 and state = 1 and what = 0 order by age, batch, turn, id limit 1)
                 union all
                 (select age from queue where op = $1 and state = 1 and what = 2 order by age, batch limit 1)) first order by age limit 1
