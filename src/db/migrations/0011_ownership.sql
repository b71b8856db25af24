alter table upstream_objects
  -- What is deleted at OpenAI is no longer listed; whose it was stays on record.
  add column deleted_at timestamptz,
  -- Adopted for everybody in the organization.
  add column is_shared boolean not null default false;

-- An owner's objects of a kind in the order they are listed in.
create index upstream_objects_list on upstream_objects (organization_id, kind, created_at, object_id)
  where deleted_at is null;
-- Operators only: whether anybody else has an object.
create index upstream_objects_id on upstream_objects (object_id);
