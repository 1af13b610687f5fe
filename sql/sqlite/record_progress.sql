-- Adds to a batch's progress, on its close task. Params: 1 batch, 2 success, 3 failed. Returns: nothing. Locks: the file.
update or fail queue set success = success + ?2, failed = failed + ?3 where batch = ?1 and id = 9223372036854775807
