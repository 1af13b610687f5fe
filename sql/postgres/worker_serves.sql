-- Notes an op that a worker works on. Params: 1 worker, 2 op, 3 the batch that it works on alone, 4 notify. Returns: nothing. Locks: the new record.
insert into worker_ops (worker, op, batch, notify) values ($1, $2, $3, $4)
