-- Ends a close task: running → ended. Params: 1 batch, 2 token, 3 worker. Returns: nothing; no change = fenced. Locks: the file.
delete from queue where batch = ?1 and what = 1 and state = 2 and token = ?2 and worker = ?3
