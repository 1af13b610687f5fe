-- How our statements are planned on a connection of the pool: once, by the indexes, whatever is known of the tables. Params: none. Returns: nothing. Locks: none.
-- A table that was empty when it was last looked at would be read from end to end by a plan that outlives that by hours.
set enable_seqscan to off; set enable_bitmapscan to off; set enable_sort to off; set enable_hashjoin to off; set enable_mergejoin to off;
set plan_cache_mode to force_generic_plan
