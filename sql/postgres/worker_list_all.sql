-- Workers that have not ended, with how many tasks they have claimed. Params: none.
-- Returns: no, lock, host, pid, version, started_at, tasks. Locks: none.
select no, lock, host, pid, version, started_at, (select coalesce(sum(case when q.what = 2 then q.rows - q.success else 1 end), 0)::bigint from queue q where q.worker = w.no and q.state = 2)
  from workers w where ended_at is null order by no
