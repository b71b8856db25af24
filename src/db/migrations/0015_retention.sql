alter table organization_policies
  -- For how long the rows of attempts are kept, by whole months (UTC); null leaves it to the installation.
  add column rows_days integer check (rows_days between 31 and 36500);

-- Rows before this day (UTC) are gone, or going, in this organization; its sums stay. Never goes back.
create table attempt_retention (
  organization_id uuid primary key references organizations (id),
  rows_from date not null,
  updated_at timestamptz not null default now()
);

alter table attempt_retention enable row level security;
alter table attempt_retention force row level security;
create policy own_organization on attempt_retention
  using (organization_id = current_organization_id() or is_operator())
  with check (organization_id = current_organization_id() or is_operator());

alter table users
  -- What the user said and was called is gone; what it cost stays, under this row's id.
  add column erased_at timestamptz;
create index users_erased on users (erased_at) where erased_at is not null;

-- Makes the partition of the month (UTC) that holds a time, and moves into it what the default partition took meanwhile. Attaching
-- waits for statements under way, but none waits for it longer than the caller's lock_timeout.
create function make_attempt_partition(at_time timestamptz) returns void
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
  execute format('alter table %I enable row level security', partition_name);
  execute format('alter table %I force row level security', partition_name);
  execute format('alter table attempts attach partition %I for values from (%L) to (%L)', partition_name, month_start, month_end);
end
$$;

-- The months from this one on, and those of which the default partition holds rows.
create or replace function ensure_attempt_partitions(months_ahead integer) returns void
language plpgsql
as $$
declare
  month_start timestamptz;
begin
  for month_start in
    select (date_trunc('month', now() at time zone 'UTC') + make_interval(months => step)) at time zone 'UTC'
    from generate_series(0, months_ahead) as step
    union
    select distinct date_trunc('month', opened_at at time zone 'UTC') at time zone 'UTC' from attempts_default
    order by 1
  loop
    perform make_attempt_partition(month_start);
  end loop;
end
$$;

-- A row of before that day that comes late, from a journal that was found again, is one that was counted long ago.
create function refuse_dropped_attempt() returns trigger
language plpgsql
as $$
begin
  if exists (
    select from attempt_retention
    where organization_id = new.organization_id and rows_from > (new.opened_at at time zone 'UTC')::date
  ) then
    return null;
  end if;
  return new;
end
$$;
create trigger attempts_dropped before insert on attempts
  for each row execute function refuse_dropped_attempt();
