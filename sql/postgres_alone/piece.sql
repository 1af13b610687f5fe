-- What a piece must know before its rows run. Params: none. Returns: the transaction's number, the constraints that begin deferred (none = null). Locks: none.
select pg_catalog.pg_current_xact_id()::text,
       (select pg_catalog.string_agg(distinct pg_catalog.format('%I.%I', n.nspname, c.conname), ', ')
          from pg_catalog.pg_constraint c join pg_catalog.pg_namespace n on n.oid = c.connamespace
         where c.condeferred and pg_catalog.has_schema_privilege(n.oid, 'usage'))
