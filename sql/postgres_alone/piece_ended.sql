-- Reads a piece's mark, and plans our own statements again as `session` says. Params: none. Returns: the mark; null = the transaction is another; and what is set now, six times. Locks: none.
select current_setting('rowmill.piece', true), set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
       set_config('enable_sort', 'off', true), set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
       set_config('plan_cache_mode', 'force_generic_plan', true)
