-- Workers that may be dead. Params: none. Returns: no, incarnation, whether it was heard of in the last 30 s, ended. Locks: none.
select w.no, w.incarnation, w.beat_at > clock_timestamp() - interval '30 seconds', w.ended_at is not null
  from workers w
 where w.ended_at is null or exists (select 1 from queue q where q.worker = w.no and q.state = 2)
