alter table organization_policies
  -- Who may use what was made through the proxy: the user who made it, or everybody in the organization.
  add column share_objects text not null default 'user' check (share_objects in ('user', 'organization')),
  -- The models that may be used; null: every one. A name that ends in an asterisk stands for all that begin so.
  add column models text[] check (cardinality(models) between 1 and 200),
  -- How prompt_cache_key, safety_identifier and user reach OpenAI.
  add column identifiers text not null default 'namespaced'
    check (identifiers in ('namespaced', 'as_sent', 'always')),
  -- Secrets with which an application talks to OpenAI past the proxy.
  add column client_secrets text not null default 'refuse' check (client_secrets in ('refuse', 'allow'));
