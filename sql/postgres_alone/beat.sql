-- Notes that workers live, by the server's clock, and tells whether the session is what it was. Params: 1 workers, 2 incarnation, 3 first half of a lock's key.
-- Returns: the server process, now, workers that were noted, those that have ended, those whose locks this session holds. Locks: the workers' records; those that others hold are skipped.
with found as materialized (select no from workers where no = any($1::bigint[]) and ended_at is null for no key update skip locked),
     noted as (update workers w set beat_at = clock_timestamp(), incarnation = $2, backend = pg_backend_pid() from found where w.no = found.no returning w.no)
select pg_backend_pid(), clock_timestamp(), array(select no from noted),
       array(select no from workers where no = any($1::bigint[]) and ended_at is not null),
       array(select l.objid::bigint from pg_locks l where l.locktype = 'advisory' and l.classid = $3::bigint::oid and l.objsubid = 2 and l.granted and l.pid = pg_backend_pid())
