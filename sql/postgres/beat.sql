-- What a worker runs. Params: 1 worker. Returns: batch, id, no, attempt, token, what, abort_at. Locks: none.
select q.batch, q.id, q.no, q.attempt, q.token, q.what, b.abort_at from queue q join batches b on b.id = q.batch where q.worker = $1 and q.state = 2
