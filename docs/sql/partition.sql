-- Makes the tables that grow partitioned by batch, once. Run it as their owner with no worker running; docs/operations.md says when.
-- What is there stays where it is, in a partition for all that no other takes: it is not copied.
-- Grants on the tables, the view and its functions are given anew afterwards.
begin;
set local search_path to rowmill;
lock table blocks, attempts in access exclusive mode;

do $$
declare
    -- They are bound to the tables, and not to their names.
    made text[] := array[
        pg_get_functiondef('blockrows(uuid, integer)'::regprocedure),
        pg_get_functiondef('batchrow(uuid, integer)'::regprocedure),
        'create view batchrows as ' || pg_get_viewdef('batchrows'::regclass)];
    -- So are these; the tables that take the names get them under the names that they have.
    own text[];
    statement text;
    name text;
begin
    drop view batchrows;
    drop function batchrow(uuid, integer);
    drop function blockrows(uuid, integer);
    foreach name in array array['blocks', 'attempts'] loop
        own := array(
            select format('alter table %I add constraint %I %s', name, conname, pg_get_constraintdef(oid)) from pg_constraint where conrelid = name::regclass and contype = 'p'
            union all
            select pg_get_indexdef(indexrelid) from pg_index where indrelid = name::regclass and not indisprimary
            union all
            select pg_get_triggerdef(oid) from pg_trigger where tgrelid = name::regclass and not tgisinternal);
        for statement in select format('alter index %s rename to %I', indexrelid::regclass, relname || '_rest') from pg_index join pg_class on oid = indexrelid where indrelid = name::regclass loop
            execute statement;
        end loop;
        execute format('alter table %I rename to %I', name, name || '_rest');
        execute format('create table %I (like %I including all excluding indexes) partition by range (batch)', name, name || '_rest');
        foreach statement in array own loop
            execute statement;
        end loop;
        execute format('alter table %I attach partition %I default', name, name || '_rest');
    end loop;
    foreach statement in array made loop
        execute statement;
    end loop;
end $$;

-- What the ids of batches made from then on begin with: the first 48 bits of a UUIDv7 are its milliseconds.
create schema rowmill_ops;
create function rowmill_ops.first_id(at timestamptz) returns uuid language sql stable as
$$ select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid $$;

-- Adds the partitions of a month, before its first batch. A batch that was made already is in the rest, and then they are refused.
create procedure rowmill_ops.add_month(month date) language plpgsql as $$
declare
    first timestamptz := month::timestamp at time zone 'UTC';
    next timestamptz := (month + interval '1 month')::timestamp at time zone 'UTC';
    name text;
begin
    foreach name in array array['blocks', 'attempts'] loop
        execute format('create table rowmill.%I partition of rowmill.%I for values from (%L) to (%L)',
            name || to_char(month, '_YYYY_MM'), name, rowmill_ops.first_id(first), rowmill_ops.first_id(next));
    end loop;
end $$;

-- Takes the partitions of a month away, where every batch of it has ended: `rowmill purge` then finds nothing to remove of them.
create procedure rowmill_ops.drop_month(month date) language plpgsql as $$
declare
    first uuid := rowmill_ops.first_id(month::timestamp at time zone 'UTC');
    next uuid := rowmill_ops.first_id((month + interval '1 month')::timestamp at time zone 'UTC');
    name text;
begin
    -- Whoever submits is waited for, and seen.
    foreach name in array array['blocks', 'attempts'] loop
        execute format('lock table rowmill.%I in access exclusive mode', name || to_char(month, '_YYYY_MM'));
    end loop;
    if exists (select 1 from rowmill.batches where id >= first and id < next and done_at is null) then
        raise exception 'a batch of % has not ended', to_char(month, 'YYYY-MM');
    end if;
    foreach name in array array['blocks', 'attempts'] loop
        execute format('drop table rowmill.%I', name || to_char(month, '_YYYY_MM'));
    end loop;
end $$;
commit;
