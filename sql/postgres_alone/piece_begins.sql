-- Marks a piece, and plans the application's statements as usual. Params: 1 the mark. Returns: what is set now, six times. Locks: none.
select set_config('rowmill.piece', $1, true), set_config('enable_seqscan', 'on', true), set_config('enable_bitmapscan', 'on', true),
       set_config('enable_sort', 'on', true), set_config('enable_hashjoin', 'on', true), set_config('enable_mergejoin', 'on', true),
       set_config('plan_cache_mode', 'auto', true)
