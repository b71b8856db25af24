-- How an organization wants its calls treated; without a row the defaults below hold.
create table organization_policies (
  organization_id uuid primary key references organizations (id),
  -- When the client goes: cut the call and estimate, or read on to the end and know.
  client_gone text not null default 'abort' check (client_gone in ('abort', 'drain')),
  -- Calls to a model without a price.
  unpriced_models text not null default 'allow' check (unpriced_models in ('allow', 'refuse')),
  updated_at timestamptz not null default now()
);

alter table organization_policies enable row level security;
alter table organization_policies force row level security;
create policy own_organization on organization_policies
  using (organization_id = current_organization_id() or is_operator())
  with check (organization_id = current_organization_id() or is_operator());

create trigger organization_policies_changed after insert or update on organization_policies
  for each row execute function notify_identity_change();
