-- An op, and the smallest turn that is queued in it at a priority. Params: 1 app, 2 op, 3 kind, 4 priority. Returns: id, turn. Locks: none.
select o.id, (select turn from ((select turn from queue where op = o.id and priority = $4 and state = 1 and what = 0 order by turn limit 1)
                                 union all
                                 (select turn from queue where op = o.id and priority = $4 and state = 1 and what = 2 order by turn limit 1)) first order by turn limit 1)
  from ops o where o.app = $1 and o.op = $2 and o.kind = $3
