-- The parts of one block that have outcomes. Params: 1 batch, 2 no. Returns: task, attempt, part, ordinals, body. Locks: none.
select task, attempt, part, ordinals, body from attempts where batch = $1 and no = $2 and body <> ''
