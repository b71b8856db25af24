-- What was asked and what was answered, apart from the accounting and with a deadline of its own.
create table contents (
  organization_id uuid not null,
  attempt_id uuid not null,
  kind text not null check (kind in ('request', 'response')),
  -- Under the organization's data key; organization, attempt and kind are bound in.
  sealed bytea not null,
  -- How long the body was; more than is kept when it was cut.
  original_bytes bigint not null check (original_bytes >= 0),
  is_cut boolean not null,
  created_at timestamptz not null,
  expires_at timestamptz not null,
  primary key (organization_id, attempt_id, kind)
);
create index contents_expires_at on contents (expires_at);
-- What is sealed does not get smaller by compressing it.
alter table contents alter column sealed set storage external;

alter table contents enable row level security;
alter table contents force row level security;
create policy own_organization on contents
  using (organization_id = current_organization_id() or is_operator())
  with check (organization_id = current_organization_id() or is_operator());

alter table organization_policies
  -- What is kept of requests and answers; a change holds for what comes next, what is kept goes at its deadline.
  add column content text not null default 'full' check (content in ('none', 'full')),
  add column content_days integer not null default 30 check (content_days between 1 and 3650);
