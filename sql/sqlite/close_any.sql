-- Whether a close task is claimable. Params: none. Returns: 1. Locks: none.
select 1 from queue where what = 1 and state = 1 limit 1
