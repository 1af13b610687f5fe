-- The open tasks of one block. Params: 1 batch, 2 no. Returns: state, pick, attempt. Locks: none.
select state, pick, attempt from queue where batch = ?1 and no = ?2 and what = 0
