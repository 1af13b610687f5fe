-- Ends the session that holds a worker's lock: the worker's own, which it has lost and the server has not. Params: 1 first half of the lock's key, 2 worker. Returns: nothing. Locks: none.
select pg_terminate_backend(l.pid) from pg_locks l
 where l.locktype = 'advisory' and l.classid = $1::bigint::oid and l.objid = $2::bigint::oid and l.objsubid = 2 and l.granted and l.pid <> pg_backend_pid()
   and l.database = (select oid from pg_database where datname = current_database())
