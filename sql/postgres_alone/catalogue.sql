-- What the schema that comes first in the search path has, a line each, in the order of their bytes; the table of migrations is refinery's, and a partition has what its table has. Params: none. Returns: line. Locks: none.
select line collate "C" from (
    select 'table ' || c.relname || ' column ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || case when a.attnotnull then ' not null' else '' end as line
      from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
     where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p') and not c.relispartition and c.relname <> 'schema_history'
    union all
    select 'table ' || c.relname || ' index ' || i.relname || regexp_replace(pg_get_indexdef(i.oid), '^CREATE (UNIQUE |)INDEX \S+ ON (ONLY |)\S+', ' \1')
      from pg_index x join pg_class c on c.oid = x.indrelid join pg_class i on i.oid = x.indexrelid
     where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p') and not c.relispartition and c.relname <> 'schema_history'
    union all
    select 'table ' || c.relname || ' constraint ' || k.conname
      from pg_constraint k join pg_class c on c.oid = k.conrelid
     where c.relnamespace = current_schema()::regnamespace and k.contype in ('c', 'f', 'p', 'u') and not c.relispartition and c.relname <> 'schema_history'
    union all
    select 'table ' || c.relname || ' trigger ' || t.tgname || case t.tgenabled when 'D' then ' off' else '' end
      from pg_trigger t join pg_class c on c.oid = t.tgrelid
     where c.relnamespace = current_schema()::regnamespace and not t.tgisinternal and not c.relispartition
    union all
    select 'view ' || c.relname from pg_class c where c.relnamespace = current_schema()::regnamespace and c.relkind in ('v', 'm')
    union all
    select 'function ' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' from pg_proc p where p.pronamespace = current_schema()::regnamespace
) found (line) order by 1
