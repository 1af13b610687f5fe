-- A batch's progress, from its close task. Params: 1 batch. Returns: success, failed. Locks: none.
select success, failed from queue where batch = $1 and id = 9223372036854775807
