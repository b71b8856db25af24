alter table organization_policies
  -- Whether calls may come over WebSockets.
  add column websockets text not null default 'allow' check (websockets in ('allow', 'refuse'));
