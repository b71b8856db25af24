-- What a rating is about, copied from the attempt that it rates, so that shares and costs need no join; and who gave it.
alter table ratings
  add column revision integer not null default 1 check (revision > 0),
  add column attempt_id uuid,
  add column opened_at timestamptz,
  add column user_id uuid,
  add column api_key_id uuid,
  add column persona_id uuid,
  add column persona_version integer,
  add column session_id text,
  add column model text,
  -- Null is "unpriced", never free.
  add column cost_nano_usd bigint,
  -- `token:<id>`, `key:<id>`; null for what was rated before this was kept.
  add column rated_by text,
  add column rated_by_user_id uuid;

-- Every rating that was ever given; `ratings` has the last of each request.
create table rating_history (
  organization_id uuid not null references organizations (id),
  request_id text not null,
  revision integer not null check (revision > 0),
  rating smallint not null check (rating in (-1, 1)),
  feedback text check (length(feedback) <= 4000),
  rated_at timestamptz not null,
  rated_by text,
  rated_by_user_id uuid,
  primary key (organization_id, request_id, revision)
);

alter table rating_history enable row level security;
alter table rating_history force row level security;
create policy own_organization on rating_history
  using (organization_id = (select current_organization_id()) or (select is_operator()))
  with check (organization_id = (select current_organization_id()) or (select is_operator()));

insert into rating_history (organization_id, request_id, revision, rating, feedback, rated_at)
select organization_id, request_id, 1, rating, feedback, rated_at from ratings;

update ratings set
  attempt_id = rated.attempt_id,
  opened_at = rated.opened_at,
  user_id = rated.user_id,
  api_key_id = rated.api_key_id,
  persona_id = rated.persona_id,
  persona_version = rated.persona_version,
  session_id = rated.session_id,
  model = coalesce(rated.model_used, rated.model_requested, ''),
  cost_nano_usd = rated.cost_nano_usd
from attempts as rated
where rated.organization_id = ratings.organization_id
  and rated.request_id = ratings.request_id
  and not rated.is_superseded;

create index ratings_newest on ratings (organization_id, rated_at desc, request_id desc);
-- All that shares and costs are summed from, so that they need not visit the rows.
create index ratings_of_period on ratings (organization_id, opened_at)
  include (rating, cost_nano_usd, user_id, persona_id, persona_version, model, api_key_id);

-- A price that is corrected later holds for what was rated as well.
create function move_rating_costs() returns trigger
language plpgsql
as $$
begin
  update ratings set cost_nano_usd = changed.cost_nano_usd
  from changed
  where ratings.organization_id = changed.organization_id
    and ratings.request_id = changed.request_id
    and ratings.attempt_id = changed.attempt_id
    and ratings.cost_nano_usd is distinct from changed.cost_nano_usd;
  return null;
end
$$;
create trigger attempts_priced after update on attempts
  referencing new table as changed for each statement execute function move_rating_costs();

-- What is taken out of a rating without rating anew was taken back, and is gone from its history as well.
create function erase_feedback_history() returns trigger
language plpgsql
as $$
begin
  update rating_history set feedback = null
  where organization_id = new.organization_id and request_id = new.request_id and feedback is not null;
  return null;
end
$$;
create trigger ratings_erased after update of feedback on ratings
  for each row when (new.feedback is null and new.revision = old.revision) execute function erase_feedback_history();
