-- Whether a query of an op may begin at once: the op is not paused, and nothing of it waits for a worker. Params: 1 op. Returns: free. Locks: none.
select not o.paused
       and not exists (select 1 from queue where op = o.id and state = 1 and what = 0)
       and not exists (select 1 from queue where op = o.id and state = 1 and what = 2)
  from ops o where o.id = $1
