-- Removes nothing: `stop_tasks` has removed the tasks whose rows it ended, and only those. Params: 1 batch. Returns: nothing. Locks: none.
delete from queue where batch = $1 and false
