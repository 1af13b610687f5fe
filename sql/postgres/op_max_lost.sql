-- How often an op's row may be lost: as it is set here, else as a process registered it. A number that was written as `+5` is a text.
-- Params: 1 op. Returns: max_lost. Locks: none.
select coalesce(case when said is not null then coalesce(substring(said from '^\s*([+-]?\d{1,9})'), '0')::integer end, max_lost)
  from (select max_lost, field(settings::json, 'max_lost') as said from ops where id = $1) o
