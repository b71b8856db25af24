-- Sums of attempts by day (UTC) and by everything reports group by. Moved in the same statement that inserts the rows, so that they
-- always equal the sum of the rows.
create table usage_daily (
  organization_id uuid not null,
  day date not null,
  -- Zero instead of null, so that "nobody" and "none" are groups like any other.
  user_id uuid not null,
  api_key_id uuid not null,
  persona_id uuid not null,
  persona_version integer not null,
  model text not null,
  request_count bigint not null,
  success_count bigint not null,
  failure_count bigint not null,
  estimated_count bigint not null,
  unpriced_count bigint not null,
  input_tokens bigint not null,
  cached_tokens bigint not null,
  cache_write_tokens bigint not null,
  output_tokens bigint not null,
  reasoning_tokens bigint not null,
  cost_nano_usd bigint not null,
  duration_ms bigint not null,
  primary key (organization_id, day, user_id, api_key_id, persona_id, persona_version, model)
);

alter table usage_daily enable row level security;
alter table usage_daily force row level security;
create policy own_organization on usage_daily
  using (organization_id = current_organization_id() or is_operator())
  with check (organization_id = current_organization_id() or is_operator());

-- What the rows of attempts add up to, in the shape of usage_daily: how the sums are made, and how they are verified.
create function sum_attempts(rows attempts[]) returns setof usage_daily
language sql stable
as $$
  select
    organization_id,
    (opened_at at time zone 'UTC')::date,
    coalesce(user_id, '00000000-0000-0000-0000-000000000000'),
    api_key_id,
    coalesce(persona_id, '00000000-0000-0000-0000-000000000000'),
    coalesce(persona_version, 0),
    coalesce(model_used, model_requested, ''),
    count(*),
    count(*) filter (where status in ('completed', 'incomplete')),
    count(*) filter (where status in ('failed', 'upstream_error', 'interrupted')),
    count(*) filter (where usage_source <> 'reported'),
    count(*) filter (where cost_nano_usd is null),
    coalesce(sum(input_tokens), 0)::bigint,
    coalesce(sum(cached_tokens), 0)::bigint,
    coalesce(sum(cache_write_tokens), 0)::bigint,
    coalesce(sum(output_tokens), 0)::bigint,
    coalesce(sum(reasoning_tokens), 0)::bigint,
    coalesce(sum(cost_nano_usd), 0)::bigint,
    coalesce(sum(duration_ms), 0)::bigint
  from unnest(rows)
  group by 1, 2, 3, 4, 5, 6, 7
  -- Always in one order, so that two batches never wait for each other.
  order by 1, 2, 3, 4, 5, 6, 7
$$;

insert into usage_daily
select sums.* from (
  select array_agg(attempts) as rows from attempts group by organization_id
) as tenants, sum_attempts(tenants.rows) as sums;
