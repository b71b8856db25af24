-- The first schema. Every tenant table leads with organization_id in its keys and forces row level security:
-- a transaction sees the organization named by app.organization_id, or every one when app.operator is 'on', or nothing.

create function current_organization_id() returns uuid
language sql stable parallel safe
as $$ select nullif(current_setting('app.organization_id', true), '')::uuid $$;

create function is_operator() returns boolean
language sql stable parallel safe
as $$ select current_setting('app.operator', true) is not distinct from 'on' $$;

create table instance_secrets (
  name text primary key,
  sealed text not null,
  created_at timestamptz not null default now()
);

create table organizations (
  id uuid primary key default gen_random_uuid(),
  name text not null check (length(name) between 1 and 255),
  -- Tokens carry the generation they were signed under; raising it revokes all of them at once.
  token_generation integer not null default 1 check (token_generation > 0),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

create table organization_keys (
  organization_id uuid not null references organizations (id),
  version integer not null check (version > 0),
  sealed text not null,
  created_at timestamptz not null default now(),
  primary key (organization_id, version)
);

create table users (
  organization_id uuid not null references organizations (id),
  id uuid not null default gen_random_uuid(),
  external_id text not null check (length(external_id) between 1 and 255),
  created_at timestamptz not null default now(),
  deleted_at timestamptz,
  primary key (organization_id, id)
);
-- A deleted user's external id is free again: whoever comes with it next is somebody new.
create unique index users_external_id on users (organization_id, external_id) where deleted_at is null;
create index users_id on users (id);

create table api_keys (
  organization_id uuid not null references organizations (id),
  id uuid not null default gen_random_uuid(),
  user_id uuid,
  name text check (length(name) <= 255),
  description text check (length(description) <= 4000),
  base_url text,
  key_hash bytea not null check (length(key_hash) = 32),
  key_prefix text not null,
  key_last4 text not null,
  upstream_key_sealed text not null,
  is_active boolean not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (organization_id, id),
  foreign key (organization_id, user_id) references users (organization_id, id)
);
create unique index api_keys_hash on api_keys (key_hash);
create index api_keys_id on api_keys (id);
create index api_keys_choice on api_keys (organization_id, user_id, created_at, id) where is_active;

create table tokens (
  organization_id uuid not null references organizations (id),
  id uuid not null default gen_random_uuid(),
  name text check (length(name) <= 255),
  scopes text[] not null check (scopes <@ array['inference', 'org:admin'] and cardinality(scopes) > 0),
  external_user_id text check (length(external_user_id) between 1 and 255),
  generation integer not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  revoked_at timestamptz,
  primary key (organization_id, id)
);
create index tokens_id on tokens (id);

create table sessions (
  organization_id uuid not null references organizations (id),
  -- The user, or the API key itself when an organization-wide key came without a user.
  owner_id uuid not null,
  session_id text not null check (length(session_id) between 1 and 255),
  user_id uuid,
  started_at timestamptz not null,
  last_request_at timestamptz not null,
  primary key (organization_id, owner_id, session_id)
);

-- One row for each call upstream. No foreign keys: accounting outlives what it accounts for.
create table attempts (
  organization_id uuid not null,
  attempt_id uuid not null,
  opened_at timestamptz not null,
  settled_at timestamptz not null,
  request_id text not null,
  attempt_number integer not null default 1,
  endpoint text not null,
  user_id uuid,
  api_key_id uuid not null,
  persona_id uuid,
  persona_version integer,
  session_id text not null,
  model_requested text,
  model_used text,
  service_tier text,
  is_stream boolean not null,
  status text not null check (
    status in ('completed', 'incomplete', 'failed', 'cancelled', 'client_closed', 'upstream_error', 'interrupted')
  ),
  http_status integer,
  error_code text,
  response_id text,
  upstream_request_id text,
  usage_source text not null check (usage_source in ('reported', 'estimated', 'unknown')),
  input_tokens bigint check (input_tokens >= 0),
  cached_tokens bigint check (cached_tokens >= 0),
  cache_write_tokens bigint check (cache_write_tokens >= 0),
  output_tokens bigint check (output_tokens >= 0),
  reasoning_tokens bigint check (reasoning_tokens >= 0),
  total_tokens bigint check (total_tokens >= 0),
  -- The usage object as OpenAI sent it, so that history can be priced again.
  usage jsonb,
  -- Null is "unpriced", never free.
  cost_nano_usd bigint check (cost_nano_usd >= 0),
  price_version text,
  first_byte_ms integer,
  duration_ms integer not null,
  primary key (organization_id, attempt_id, opened_at)
) partition by range (opened_at);
create index attempts_request_id on attempts (organization_id, request_id);
create index attempts_response_id on attempts (organization_id, response_id) where response_id is not null;
create index attempts_opened_at on attempts (organization_id, opened_at desc);

create table attempts_default partition of attempts default;

-- Makes the monthly partitions of attempts from this month on; safe to call at any time, by several servers at once.
create function ensure_attempt_partitions(months_ahead integer) returns void
language plpgsql
as $$
declare
  month_start timestamptz;
  partition_name text;
begin
  perform pg_advisory_xact_lock(hashtext('openai_proxy.attempt_partitions'));
  for step in 0 .. months_ahead loop
    month_start := (date_trunc('month', now() at time zone 'UTC') + make_interval(months => step)) at time zone 'UTC';
    partition_name := 'attempts_' || to_char(month_start at time zone 'UTC', 'YYYYMM');
    if to_regclass(partition_name) is null and not exists (
      -- Rows that the default partition took meanwhile stay where they are: both answer the same queries.
      select from attempts_default
      where opened_at >= month_start and opened_at < (month_start at time zone 'UTC' + interval '1 month') at time zone 'UTC'
    ) then
      execute format(
        'create table %I partition of attempts for values from (%L) to (%L)',
        partition_name,
        month_start,
        (month_start at time zone 'UTC' + interval '1 month') at time zone 'UTC'
      );
      execute format('alter table %I enable row level security', partition_name);
      execute format('alter table %I force row level security', partition_name);
    end if;
  end loop;
end
$$;

create table ratings (
  organization_id uuid not null references organizations (id),
  request_id text not null,
  response_id text,
  rating smallint not null check (rating in (-1, 1)),
  feedback text check (length(feedback) <= 4000),
  rated_at timestamptz not null default now(),
  primary key (organization_id, request_id)
);

-- Which organization and user made which object at OpenAI, and the key whose project it lives in.
create table upstream_objects (
  organization_id uuid not null references organizations (id),
  object_id text not null check (length(object_id) between 1 and 255),
  kind text not null,
  user_id uuid,
  api_key_id uuid not null,
  created_at timestamptz not null default now(),
  primary key (organization_id, object_id)
);

-- Each row carries the hash of the one before it in its organization: altering or deleting one is seen.
create table audit_log (
  organization_id uuid not null references organizations (id),
  sequence bigint not null check (sequence > 0),
  at timestamptz not null,
  actor text not null,
  action text not null,
  target text not null,
  details jsonb not null,
  previous_hash bytea not null,
  hash bytea not null,
  primary key (organization_id, sequence)
);

-- The end of each chain, so that cutting off its last rows is seen as well.
create table audit_heads (
  organization_id uuid primary key references organizations (id),
  sequence bigint not null,
  hash bytea not null
);

-- Row level security: forced, so that it holds for the owner of the tables too.
alter table instance_secrets enable row level security;
alter table instance_secrets force row level security;
create policy operator_only on instance_secrets using (is_operator()) with check (is_operator());

alter table organizations enable row level security;
alter table organizations force row level security;
create policy own_organization on organizations
  using (id = current_organization_id() or is_operator())
  with check (id = current_organization_id() or is_operator());

do $$
declare
  tenant_table text;
begin
  foreach tenant_table in array array[
    'organization_keys', 'users', 'api_keys', 'tokens', 'sessions', 'attempts', 'attempts_default', 'ratings',
    'upstream_objects', 'audit_log', 'audit_heads'
  ] loop
    execute format('alter table %I enable row level security', tenant_table);
    execute format('alter table %I force row level security', tenant_table);
    execute format(
      'create policy own_organization on %I using (organization_id = current_organization_id() or is_operator()) '
      'with check (organization_id = current_organization_id() or is_operator())',
      tenant_table
    );
  end loop;
end
$$;

-- Every change behind a cached identity is told to every process, at commit.
create function notify_identity_change() returns trigger
language plpgsql
as $$
begin
  perform pg_notify('openai_proxy_identity', new.organization_id::text);
  return null;
end
$$;

create function notify_organization_change() returns trigger
language plpgsql
as $$
begin
  perform pg_notify('openai_proxy_identity', new.id::text);
  return null;
end
$$;

create trigger organizations_changed after update of token_generation, name on organizations
  for each row execute function notify_organization_change();
create trigger users_changed after update on users
  for each row execute function notify_identity_change();
create trigger api_keys_changed after insert or update on api_keys
  for each row execute function notify_identity_change();
create trigger tokens_changed after update on tokens
  for each row execute function notify_identity_change();
