-- Workers whose locks are held, and those that live by their heartbeat alone, with the server's incarnation: its start and its timeline.
-- Params: 1 first half of a lock's key, 2 seconds of a heartbeat. Returns: workers, incarnation. Locks: none.
select (select coalesce(array_agg(l.objid::bigint), '{}') from pg_locks l
         where l.locktype = 'advisory' and l.classid = $1::bigint::oid and l.objsubid = 2 and l.granted
           and l.database = (select oid from pg_database where datname = current_database()))
       || (select coalesce(array_agg(w.no), '{}') from workers w
            where w.ended_at is null and w.incarnation = '' and w.beat_at > clock_timestamp() - make_interval(secs => $2)),
       extract(epoch from pg_postmaster_start_time())::text || '/' || case when pg_is_in_recovery() then '' else left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) end
