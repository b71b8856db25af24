-- Background responses whose end nobody has learned yet: asked for until it is known, by whichever server comes first.
create table background_attempts (
  organization_id uuid not null,
  attempt_id uuid not null,
  response_id text not null,
  api_key_id uuid not null,
  -- The opened record of the journal, from which the row is made in the end.
  opened jsonb not null,
  polls integer not null default 0,
  next_poll_at timestamptz not null default now(),
  created_at timestamptz not null default now(),
  primary key (organization_id, attempt_id)
);
create index background_attempts_due on background_attempts (next_poll_at);

alter table background_attempts enable row level security;
alter table background_attempts force row level security;
create policy own_organization on background_attempts
  using (organization_id = current_organization_id() or is_operator())
  with check (organization_id = current_organization_id() or is_operator());
