-- What reports read. From here on the sums move by trigger, in the statement that writes the rows, whoever writes them; an older
-- server would move the daily ones a second time, hence breaking.

-- A later attempt of the same request took its place: the request is counted there.
alter table attempts add column is_superseded boolean not null default false;

update attempts set is_superseded = true
from attempts as later
where later.attempt_number > 1
  and later.organization_id = attempts.organization_id
  and later.request_id = attempts.request_id
  and later.attempt_number > attempts.attempt_number;

-- All that sums of rows are made of, so that what no other sum is fit for need not visit the rows.
drop index attempts_opened_at;
create index attempts_usage on attempts (organization_id, opened_at) include (
  user_id, api_key_id, persona_id, persona_version, session_id, model_used, model_requested, is_superseded, status, usage_source,
  input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_nano_usd, duration_ms
);
-- Detail pages of a session and of a user.
create index attempts_session on attempts (organization_id, session_id, opened_at);
create index attempts_user on attempts (organization_id, user_id, opened_at);

-- What one attempt adds to the sums, under which keys. Zero instead of null, so that "nobody" and "none" are groups like any other.
create function usage_of(attempt attempts) returns table (
  organization_id uuid, opened_at timestamptz, user_id uuid, api_key_id uuid, persona_id uuid, persona_version integer, model text,
  owner_id uuid, session_id text,
  request_count bigint, success_count bigint, failure_count bigint, estimated_count bigint, unpriced_count bigint,
  input_tokens bigint, cached_tokens bigint, cache_write_tokens bigint, output_tokens bigint, reasoning_tokens bigint,
  cost_nano_usd bigint, duration_ms bigint
)
language sql immutable parallel safe
as $$
  select
    attempt.organization_id,
    attempt.opened_at,
    coalesce(attempt.user_id, '00000000-0000-0000-0000-000000000000'),
    attempt.api_key_id,
    coalesce(attempt.persona_id, '00000000-0000-0000-0000-000000000000'),
    coalesce(attempt.persona_version, 0),
    coalesce(attempt.model_used, attempt.model_requested, ''),
    coalesce(attempt.user_id, attempt.api_key_id),
    attempt.session_id,
    (not attempt.is_superseded)::integer::bigint,
    (not attempt.is_superseded and attempt.status in ('completed', 'incomplete'))::integer::bigint,
    (not attempt.is_superseded and attempt.status in ('failed', 'upstream_error', 'interrupted'))::integer::bigint,
    (attempt.usage_source <> 'reported')::integer::bigint,
    (attempt.cost_nano_usd is null)::integer::bigint,
    coalesce(attempt.input_tokens, 0),
    coalesce(attempt.cached_tokens, 0),
    coalesce(attempt.cache_write_tokens, 0),
    coalesce(attempt.output_tokens, 0),
    coalesce(attempt.reasoning_tokens, 0),
    coalesce(attempt.cost_nano_usd, 0),
    attempt.duration_ms::bigint
$$;

-- The last request of each group, so that "last used" needs no rows.
alter table usage_daily add column last_request_at timestamptz;
create index usage_daily_user on usage_daily (organization_id, user_id, day);
drop function sum_attempts(attempts[]);

-- Sums by few columns at a time, so that a report reads few rows however many users, models and personas there are together. Slices
-- without users are by quarter of an hour, which every time zone's hours and days are made of; those with users, and pairs, by day (UTC).
-- Columns that are not of the slice are zero.
create table usage_slices (
  organization_id uuid not null,
  slice text not null check (
    slice in ('all', 'key', 'persona', 'model', 'user', 'user_model', 'persona_model', 'persona_user')
  ),
  starts_at timestamptz not null,
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
  last_request_at timestamptz not null,
  primary key (organization_id, slice, starts_at, persona_id, user_id, api_key_id, persona_version, model)
);
create index usage_slices_user on usage_slices (organization_id, slice, user_id, starts_at)
  where slice in ('user', 'user_model', 'persona_user');

-- What a session used, over all of its life. Like the rows it is summed from, it refers to nothing.
alter table sessions drop constraint sessions_organization_id_fkey;
alter table sessions
  add column request_count bigint not null default 0,
  add column success_count bigint not null default 0,
  add column failure_count bigint not null default 0,
  add column unpriced_count bigint not null default 0,
  add column input_tokens bigint not null default 0,
  add column output_tokens bigint not null default 0,
  add column cost_nano_usd bigint not null default 0;
create index sessions_started_at on sessions (organization_id, started_at desc, owner_id, session_id);

-- The statements that move the sums, given a query for what moves them: what `usage_of` says of rows, with a sign. Always in one
-- order, so that two batches never wait for each other.
create function usage_moves(moved text) returns text[]
language sql immutable
as $moves$ select array[
  format($move$
    insert into usage_daily as sums (
      organization_id, day, user_id, api_key_id, persona_id, persona_version, model,
      request_count, success_count, failure_count, estimated_count, unpriced_count, input_tokens, cached_tokens,
      cache_write_tokens, output_tokens, reasoning_tokens, cost_nano_usd, duration_ms, last_request_at
    )
    select
      organization_id, (opened_at at time zone 'UTC')::date as day, user_id, api_key_id, persona_id, persona_version, model,
      sum(sign * request_count), sum(sign * success_count), sum(sign * failure_count), sum(sign * estimated_count),
      sum(sign * unpriced_count), sum(sign * input_tokens), sum(sign * cached_tokens), sum(sign * cache_write_tokens),
      sum(sign * output_tokens), sum(sign * reasoning_tokens), sum(sign * cost_nano_usd), sum(sign * duration_ms), max(opened_at)
    from (%s) as moved
    group by organization_id, day, user_id, api_key_id, persona_id, persona_version, model
    order by organization_id, day, user_id, api_key_id, persona_id, persona_version, model
    on conflict (organization_id, day, user_id, api_key_id, persona_id, persona_version, model) do update set
      request_count = sums.request_count + excluded.request_count,
      success_count = sums.success_count + excluded.success_count,
      failure_count = sums.failure_count + excluded.failure_count,
      estimated_count = sums.estimated_count + excluded.estimated_count,
      unpriced_count = sums.unpriced_count + excluded.unpriced_count,
      input_tokens = sums.input_tokens + excluded.input_tokens,
      cached_tokens = sums.cached_tokens + excluded.cached_tokens,
      cache_write_tokens = sums.cache_write_tokens + excluded.cache_write_tokens,
      output_tokens = sums.output_tokens + excluded.output_tokens,
      reasoning_tokens = sums.reasoning_tokens + excluded.reasoning_tokens,
      cost_nano_usd = sums.cost_nano_usd + excluded.cost_nano_usd,
      duration_ms = sums.duration_ms + excluded.duration_ms,
      last_request_at = greatest(sums.last_request_at, excluded.last_request_at)$move$, moved),
  format($move$
    insert into usage_slices as sums (
      organization_id, slice, starts_at, user_id, api_key_id, persona_id, persona_version, model,
      request_count, success_count, failure_count, estimated_count, unpriced_count, input_tokens, cached_tokens,
      cache_write_tokens, output_tokens, reasoning_tokens, cost_nano_usd, duration_ms, last_request_at
    )
    select
      organization_id,
      case
        when grouping(user_id) = 0 and grouping(model) = 0 then 'user_model'
        when grouping(user_id) = 0 and grouping(persona_id) = 0 then 'persona_user'
        when grouping(user_id) = 0 then 'user'
        when grouping(persona_id) = 0 and grouping(model) = 0 then 'persona_model'
        when grouping(persona_id) = 0 then 'persona'
        when grouping(model) = 0 then 'model'
        when grouping(api_key_id) = 0 then 'key'
        else 'all'
      end as slice,
      coalesce(quarter, day),
      coalesce(user_id, '00000000-0000-0000-0000-000000000000'),
      coalesce(api_key_id, '00000000-0000-0000-0000-000000000000'),
      coalesce(persona_id, '00000000-0000-0000-0000-000000000000'),
      coalesce(persona_version, 0),
      coalesce(model, ''),
      sum(sign * request_count), sum(sign * success_count), sum(sign * failure_count), sum(sign * estimated_count),
      sum(sign * unpriced_count), sum(sign * input_tokens), sum(sign * cached_tokens), sum(sign * cache_write_tokens),
      sum(sign * output_tokens), sum(sign * reasoning_tokens), sum(sign * cost_nano_usd), sum(sign * duration_ms), max(opened_at)
    from (
      select *, date_bin('15 minutes', opened_at, 'epoch') as quarter, date_trunc('day', opened_at, 'UTC') as day
      from (%s) as moved
    ) as moved
    group by grouping sets (
      (organization_id, quarter),
      (organization_id, quarter, api_key_id),
      (organization_id, quarter, persona_id, persona_version),
      (organization_id, quarter, model),
      (organization_id, day, user_id),
      (organization_id, day, user_id, model),
      (organization_id, day, persona_id, model),
      (organization_id, day, persona_id, user_id)
    )
    order by 1, 2, 3, 4, 5, 6, 7, 8
    on conflict (organization_id, slice, starts_at, persona_id, user_id, api_key_id, persona_version, model) do update set
      request_count = sums.request_count + excluded.request_count,
      success_count = sums.success_count + excluded.success_count,
      failure_count = sums.failure_count + excluded.failure_count,
      estimated_count = sums.estimated_count + excluded.estimated_count,
      unpriced_count = sums.unpriced_count + excluded.unpriced_count,
      input_tokens = sums.input_tokens + excluded.input_tokens,
      cached_tokens = sums.cached_tokens + excluded.cached_tokens,
      cache_write_tokens = sums.cache_write_tokens + excluded.cache_write_tokens,
      output_tokens = sums.output_tokens + excluded.output_tokens,
      reasoning_tokens = sums.reasoning_tokens + excluded.reasoning_tokens,
      cost_nano_usd = sums.cost_nano_usd + excluded.cost_nano_usd,
      duration_ms = sums.duration_ms + excluded.duration_ms,
      last_request_at = greatest(sums.last_request_at, excluded.last_request_at)$move$, moved),
  format($move$
    insert into sessions as sums (
      organization_id, owner_id, session_id, user_id, started_at, last_request_at,
      request_count, success_count, failure_count, unpriced_count, input_tokens, output_tokens, cost_nano_usd
    )
    select
      organization_id, owner_id, session_id, nullif(user_id, '00000000-0000-0000-0000-000000000000') as user_id,
      min(opened_at), max(opened_at), sum(sign * request_count), sum(sign * success_count), sum(sign * failure_count),
      sum(sign * unpriced_count), sum(sign * input_tokens), sum(sign * output_tokens), sum(sign * cost_nano_usd)
    from (%s) as moved
    group by organization_id, owner_id, session_id, user_id
    order by organization_id, owner_id, session_id
    on conflict (organization_id, owner_id, session_id) do update set
      started_at = least(sums.started_at, excluded.started_at),
      last_request_at = greatest(sums.last_request_at, excluded.last_request_at),
      request_count = sums.request_count + excluded.request_count,
      success_count = sums.success_count + excluded.success_count,
      failure_count = sums.failure_count + excluded.failure_count,
      unpriced_count = sums.unpriced_count + excluded.unpriced_count,
      input_tokens = sums.input_tokens + excluded.input_tokens,
      output_tokens = sums.output_tokens + excluded.output_tokens,
      cost_nano_usd = sums.cost_nano_usd + excluded.cost_nano_usd$move$, moved)
]
$moves$;

-- Moves every sum by what rows were added and, when rows were changed, by what they had added before.
create function move_usage() returns trigger
language plpgsql
as $$
declare
  moved text := 'select usage.*, 1 as sign from added cross join lateral usage_of(added) as usage';
  move text;
begin
  if tg_op = 'UPDATE' then
    moved := moved || ' union all select usage.*, -1 from removed cross join lateral usage_of(removed) as usage';
  end if;
  foreach move in array usage_moves(moved) loop
    execute move;
  end loop;
  if tg_op = 'INSERT' then
    -- A request that was tried again is one request. Only what OpenAI never answered is tried again.
    if exists (select from added where attempt_number > 1) then
      update attempts set is_superseded = true
      from added
      where added.attempt_number > 1
        and attempts.organization_id = added.organization_id
        and attempts.request_id = added.request_id
        and attempts.attempt_number < added.attempt_number
        and not attempts.is_superseded;
    end if;
    if exists (select from added where status = 'upstream_error') then
      update attempts set is_superseded = true
      from added, attempts as later
      where added.status = 'upstream_error'
        and attempts.organization_id = added.organization_id
        and attempts.attempt_id = added.attempt_id
        and attempts.opened_at = added.opened_at
        and later.organization_id = added.organization_id
        and later.request_id = added.request_id
        and later.attempt_number > added.attempt_number
        and not attempts.is_superseded;
    end if;
  end if;
  return null;
end
$$;

create trigger attempts_added after insert on attempts
  referencing new table as added for each statement execute function move_usage();
create trigger attempts_changed after update on attempts
  referencing old table as removed new table as added for each statement execute function move_usage();

-- What is there already.
delete from usage_daily;
do $$
declare
  move text;
begin
  foreach move in array usage_moves(
    'select usage.*, 1 as sign from attempts cross join lateral usage_of(attempts) as usage'
  ) loop
    execute move;
  end loop;
end
$$;
alter table usage_daily alter column last_request_at set not null;

-- The first moment at which a zone's clocks show a local time: when they are set back some times come twice. A time that is skipped is
-- the moment after it.
create function first_moment_of(local_time timestamp, zone text) returns timestamptz
language sql stable parallel safe
as $$
  select min(moment) from (
    values (local_time at time zone zone),
      ((local_time at time zone zone) - interval '30 minutes'),
      ((local_time at time zone zone) - interval '1 hour'),
      ((local_time at time zone zone) - interval '2 hours')
  ) as moments (moment)
  where moment at time zone zone = local_time or moment = local_time at time zone zone
$$;

alter table usage_slices enable row level security;
alter table usage_slices force row level security;
create policy own_organization on usage_slices
  using (organization_id = (select current_organization_id()) or (select is_operator()))
  with check (organization_id = (select current_organization_id()) or (select is_operator()));

-- Asked once for each statement instead of once for each row, of which reports read many.
alter policy own_organization on attempts
  using (organization_id = (select current_organization_id()) or (select is_operator()))
  with check (organization_id = (select current_organization_id()) or (select is_operator()));
alter policy own_organization on usage_daily
  using (organization_id = (select current_organization_id()) or (select is_operator()))
  with check (organization_id = (select current_organization_id()) or (select is_operator()));
alter policy own_organization on sessions
  using (organization_id = (select current_organization_id()) or (select is_operator()))
  with check (organization_id = (select current_organization_id()) or (select is_operator()));
alter policy own_organization on ratings
  using (organization_id = (select current_organization_id()) or (select is_operator()))
  with check (organization_id = (select current_organization_id()) or (select is_operator()));
