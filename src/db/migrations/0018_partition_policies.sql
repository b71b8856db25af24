-- A monthly partition that is read by its own name shows what its table shows: one's own rows, and none without a tenant.
create function secure_attempt_partition(partition_name text) returns void
language plpgsql
as $$
begin
  execute format('alter table %I enable row level security', partition_name);
  execute format('alter table %I force row level security', partition_name);
  execute format('drop policy if exists own_organization on %I', partition_name);
  execute format(
    'create policy own_organization on %I '
    'using (organization_id = (select current_organization_id()) or (select is_operator())) '
    'with check (organization_id = (select current_organization_id()) or (select is_operator()))',
    partition_name
  );
end
$$;

select secure_attempt_partition(relname)
from pg_inherits join pg_class on pg_class.oid = inhrelid
where inhparent = 'attempts'::regclass
order by relname;

-- As before, and with the policy.
create or replace function make_attempt_partition(at_time timestamptz) returns void
language plpgsql
as $$
declare
  month_start timestamptz := date_trunc('month', at_time at time zone 'UTC') at time zone 'UTC';
  month_end timestamptz := (date_trunc('month', at_time at time zone 'UTC') + interval '1 month') at time zone 'UTC';
  partition_name text := 'attempts_' || to_char(at_time at time zone 'UTC', 'YYYYMM');
begin
  perform pg_advisory_xact_lock(hashtext('openai_proxy.attempt_partitions'));
  if to_regclass(partition_name) is not null then return; end if;
  -- Rows of this month can only come to the default partition, and have to wait until they come to the new one.
  lock table attempts_default in share row exclusive mode;
  execute format('create table %I (like attempts including all)', partition_name);
  execute format(
    'insert into %I select * from attempts_default where opened_at >= %L and opened_at < %L',
    partition_name, month_start, month_end
  );
  delete from attempts_default where opened_at >= month_start and opened_at < month_end;
  perform secure_attempt_partition(partition_name);
  execute format('alter table attempts attach partition %I for values from (%L) to (%L)', partition_name, month_start, month_end);
end
$$;
