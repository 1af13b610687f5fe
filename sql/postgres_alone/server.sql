-- What a server says of itself. Params: none. Returns: version, commits acknowledged how, connections that may be, that are, its time, a standby itself,
-- standbys that follow, those of them that are waited for (null: this role may not see it), whether statements without a limit may run, indexes of the schema that are not valid. Locks: none.
-- Of others' connections a role without rights sees the database, and not what they are.
select current_setting('server_version_num')::integer, current_setting('synchronous_commit'), current_setting('max_connections')::integer,
       (select count(*) from pg_stat_activity where backend_type = 'client backend' or (backend_type is null and datid is not null))::integer, clock_timestamp(), pg_is_in_recovery(),
       (select count(*) from pg_stat_replication)::integer,
       case when pg_has_role('pg_read_all_stats', 'usage') then (select count(*) from pg_stat_replication where sync_state in ('sync', 'quorum'))::integer end,
       current_setting('synchronous_standby_names'), current_setting('fsync'), current_setting('full_page_writes'),
       array(select i.relname::text from pg_index x join pg_class i on i.oid = x.indexrelid
              where i.relnamespace = current_schema()::regnamespace and not (x.indisvalid and x.indisready) order by 1)
