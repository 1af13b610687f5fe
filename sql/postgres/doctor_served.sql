-- Workers that have not ended and work on whatever comes for an op. Params: 1 op. Returns: worker. Locks: none.
select s.worker from worker_ops s join workers w on w.no = s.worker and w.ended_at is null where s.op = $1 and s.batch is null
