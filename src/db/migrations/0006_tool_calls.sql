-- Calls that are billed by the piece, so that a row can be priced again from itself alone.
alter table attempts
  add column web_search_calls integer not null default 0 check (web_search_calls >= 0),
  add column file_search_calls integer not null default 0 check (file_search_calls >= 0);
