-- The server processes that work on this database; who is not seen any more is not listed.
create table replicas (
  id uuid primary key,
  version text not null,
  -- What the operator calls it, if anything.
  name text,
  started_at timestamptz not null default clock_timestamp(),
  last_seen_at timestamptz not null default clock_timestamp(),
  -- Records of calls that are not in the database yet, and how large the journal is that holds them.
  unshipped_records bigint not null,
  journal_bytes bigint not null
);

alter table replicas enable row level security;
alter table replicas force row level security;
create policy operator_only on replicas using (is_operator()) with check (is_operator());

-- How many requests an organization may have under way at one time on each server; null: as many as the server's setting says.
alter table organization_policies add column max_concurrent_requests integer
  check (max_concurrent_requests between 1 and 100000);
