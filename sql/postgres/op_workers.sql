-- Workers of an op that have not ended. Params: 1 op. Returns: no, lock, the batch that it works on alone, notify. Locks: none.
select w.no, w.lock, s.batch, s.notify from worker_ops s join workers w on w.no = s.worker where s.op = $1 and w.ended_at is null
