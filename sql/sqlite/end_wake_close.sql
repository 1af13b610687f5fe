-- Makes a close task claimable: waiting → queued. Params: 1 batch. Returns: nothing; no change = it is, or there is none.
-- Locks: the file.
update or fail queue set state = 1 where batch = ?1 and what = 1 and state = 4
