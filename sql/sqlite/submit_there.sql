-- Which of these batches are there, a load too. Params: 1 ids. Returns: id. Locks: none.
select b.id from json_each(?1) cross join batches b on b.id = unhex(json_each.value)
