-- Personas: managed system prompts. The text of one never changes: each change is a new version.
create table personas (
  organization_id uuid not null references organizations (id),
  id uuid not null default gen_random_uuid(),
  name text not null check (length(name) between 1 and 255),
  description text check (length(description) <= 4000),
  -- The one user who may use it; null for everyone.
  user_id uuid,
  metadata jsonb check (jsonb_typeof(metadata) = 'object'),
  is_active boolean not null default true,
  -- The version that calls get, unless a rollout says otherwise.
  current_version integer not null default 1 check (current_version > 0),
  rollout_sticky_by text not null default 'session' check (rollout_sticky_by in ('session', 'user')),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  -- Deleted personas keep their name and versions for the record of what was asked with them.
  deleted_at timestamptz,
  primary key (organization_id, id),
  foreign key (organization_id, user_id) references users (organization_id, id)
);
create unique index personas_name on personas (organization_id, name) where deleted_at is null;
create index personas_id on personas (id);

create table persona_versions (
  organization_id uuid not null,
  persona_id uuid not null,
  version integer not null check (version > 0),
  content text not null check (length(content) between 1 and 100000),
  -- Name to default; null where there is none and each call has to bring a value.
  variables jsonb not null check (jsonb_typeof(variables) = 'object'),
  created_at timestamptz not null default now(),
  created_by text not null,
  primary key (organization_id, persona_id, version),
  foreign key (organization_id, persona_id) references personas (organization_id, id)
);

create function refuse_change() returns trigger
language plpgsql
as $$
begin
  raise exception 'rows of % never change', tg_table_name;
end
$$;
create trigger persona_versions_immutable before update or delete on persona_versions
  for each row execute function refuse_change();

-- While a persona has rows here, they and not its current version say what calls get.
create table persona_rollouts (
  organization_id uuid not null,
  persona_id uuid not null,
  version integer not null,
  percent integer not null check (percent between 1 and 100),
  primary key (organization_id, persona_id, version),
  foreign key (organization_id, persona_id, version)
    references persona_versions (organization_id, persona_id, version)
);

-- The persona of calls that name none.
create table persona_defaults (
  organization_id uuid not null,
  scope text not null check (scope in ('organization', 'user', 'key')),
  -- The user or the API key; for the organization itself its own id.
  target_id uuid not null,
  persona_id uuid not null,
  created_at timestamptz not null default now(),
  primary key (organization_id, scope, target_id),
  foreign key (organization_id, persona_id) references personas (organization_id, id)
);

alter table upstream_objects
  -- With which persona it was made: its text is hidden whenever the object is read.
  add column persona_id uuid,
  add column persona_version integer;

alter table organization_policies
  -- What becomes of a caller's own instructions where there is a persona.
  add column personas text not null default 'replace' check (personas in ('replace', 'append', 'enforce')),
  -- Where personas are enforced: messages of the roles system and developer.
  add column system_items text not null default 'allow' check (system_items in ('allow', 'drop', 'refuse'));

do $$
declare
  tenant_table text;
begin
  foreach tenant_table in array array['personas', 'persona_versions', 'persona_rollouts', 'persona_defaults'] loop
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

create function notify_persona_change() returns trigger
language plpgsql
as $$
begin
  perform pg_notify('openai_proxy_identity', coalesce(new.organization_id, old.organization_id)::text);
  return null;
end
$$;
create trigger personas_changed after update on personas
  for each row execute function notify_persona_change();
create trigger persona_versions_changed after insert on persona_versions
  for each row execute function notify_persona_change();
create trigger persona_rollouts_changed after insert or update or delete on persona_rollouts
  for each row execute function notify_persona_change();
create trigger persona_defaults_changed after insert or update or delete on persona_defaults
  for each row execute function notify_persona_change();
