-- Keys can be changed while servers serve. What is sealed names its key, so old and new open side by side; what is written is
-- sealed under the one in force here, whichever keys a server was started with.
create table master_keys (
  -- The fingerprint that sealed texts carry.
  name text primary key,
  -- current: new data keys are sealed under it. retiring: being replaced. retired: nothing is sealed under it, and it opens nothing.
  state text not null check (state in ('current', 'retiring', 'retired')),
  changed_at timestamptz not null default now()
);
create unique index master_keys_one_current on master_keys ((true)) where state = 'current';

alter table master_keys enable row level security;
alter table master_keys force row level security;
-- Whoever seals has to know the name; only the operator may change what it is.
create policy any_organization on master_keys for select using (current_organization_id() is not null or is_operator());
create policy operator_only on master_keys using (is_operator()) with check (is_operator());

insert into master_keys (name, state)
select split_part(sealed, ':', 2), 'current' from instance_secrets where name = 'synthetic-key-pepper';

alter table organization_keys
  -- Nothing of the organization is sealed under it any more; it opens nothing.
  add column retired_at timestamptz;

-- One row for each time that all organizations got new data keys; an unfinished one is gone on with.
create table data_key_rotations (
  started_at timestamptz primary key,
  finished_at timestamptz
);
create unique index data_key_rotations_one_unfinished on data_key_rotations ((true)) where finished_at is null;

alter table data_key_rotations enable row level security;
alter table data_key_rotations force row level security;
create policy operator_only on data_key_rotations using (is_operator()) with check (is_operator());
