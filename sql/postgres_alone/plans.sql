-- How our statements are planned: once, by the indexes, whatever is known of the tables. Params: none. Returns: nothing. Locks: none.
-- A table that was empty when it was last looked at would be read from end to end by a plan that outlives that by hours.
-- Where a table of ours is joined by its key, the key is compared with `any (array[…])`: by `=` all of an index can be read in its order, which is what the planner
-- takes where it believes that there is next to nothing, and what is there when the plan is used may be a million. Of what is read alone, a `lateral` with `offset 0` says the same.
-- All of it holds for a transaction alone: the connection may be a caller's, or one that a pooler gives to others.
set local enable_seqscan to off; set local enable_bitmapscan to off; set local enable_sort to off;
set local enable_hashjoin to off; set local enable_mergejoin to off; set local plan_cache_mode to force_generic_plan;
set local jit to off
