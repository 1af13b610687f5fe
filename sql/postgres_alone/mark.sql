-- Whether the transaction is still that of a number. Params: 1 number. Returns: whether it is, whether that one was committed. Locks: none.
select coalesce(pg_catalog.pg_current_xact_id_if_assigned()::text = $1::text, false),
       coalesce(pg_catalog.pg_xact_status($1::text::xid8) = 'committed', false)
