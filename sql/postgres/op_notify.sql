-- Says whether an op's ends are stored to be told. Params: 1 op, 2 notify. Returns: nothing; no change = it was so. Locks: the op's record.
update ops set notify = $2 where id = $1 and notify <> $2
