-- What a session is of: its server process, the server's start and timeline, whether it is a standby, and its address as it sees it. Params: none. Returns: pid, incarnation, standby, address. Locks: none.
select pg_backend_pid(),
       extract(epoch from pg_postmaster_start_time())::text || '/' || case when pg_is_in_recovery() then '' else left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) end,
       pg_is_in_recovery(), host(inet_server_addr())
