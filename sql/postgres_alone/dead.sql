-- Workers that may be dead. Params: 1 seconds of silence. Returns: no, incarnation, whether it was heard of in these, ended. Locks: none.
select w.no, w.incarnation, w.beat_at > clock_timestamp() - make_interval(secs => $1), w.ended_at is not null
  from workers w
 where w.ended_at is null or exists (select 1 from queue q where q.worker = w.no and q.state = 2)
