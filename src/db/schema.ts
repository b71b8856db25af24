import type { ColumnType, Generated } from 'kysely'

/** The tables as the migrations leave them. `bigint` columns arrive as bigint (see `database.ts`). */
export interface Schema {
  instance_secrets: { name: string; sealed: string; created_at: Generated<Date> }
  master_keys: { name: string; state: string; changed_at: Generated<Date> }
  data_key_rotations: { started_at: Date; finished_at: Date | null }
  organizations: OrganizationsTable
  organization_policies: OrganizationPoliciesTable
  organization_keys: OrganizationKeysTable
  attempt_retention: { organization_id: string; rows_from: string; updated_at: Generated<Date> }
  users: UsersTable
  api_keys: ApiKeysTable
  tokens: TokensTable
  personas: PersonasTable
  persona_versions: PersonaVersionsTable
  persona_rollouts: { organization_id: string; persona_id: string; version: number; percent: number }
  persona_defaults: PersonaDefaultsTable
  sessions: SessionsTable
  attempts: AttemptsTable
  contents: ContentsTable
  ratings: RatingsTable
  upstream_objects: UpstreamObjectsTable
  audit_log: AuditLogTable
  replicas: ReplicasTable
  audit_heads: { organization_id: string; sequence: bigint; hash: Buffer }
}

interface OrganizationsTable {
  id: Generated<string>
  name: string
  token_generation: Generated<number>
  created_at: Generated<Date>
  updated_at: Generated<Date>
}

interface OrganizationKeysTable {
  organization_id: string
  version: number
  sealed: string
  created_at: Generated<Date>
  retired_at: Generated<Date | null>
}

interface OrganizationPoliciesTable {
  organization_id: string
  client_gone: string
  unpriced_models: string
  content: string
  content_days: number
  rows_days: Generated<number | null>
  max_concurrent_requests: number | null
  personas: string
  system_items: string
  share_objects: string
  models: string[] | null
  identifiers: string
  client_secrets: string
  websockets: string
  updated_at: Generated<Date>
}

interface UsersTable {
  organization_id: string
  id: Generated<string>
  external_id: string
  created_at: Generated<Date>
  deleted_at: Date | null
  erased_at: Generated<Date | null>
}

interface ApiKeysTable {
  organization_id: string
  id: Generated<string>
  user_id: string | null
  name: string | null
  description: string | null
  base_url: string | null
  key_hash: Buffer
  key_prefix: string
  key_last4: string
  upstream_key_sealed: string
  is_active: Generated<boolean>
  created_at: Generated<Date>
  updated_at: Generated<Date>
}

interface TokensTable {
  organization_id: string
  id: string
  name: string | null
  scopes: string[]
  external_user_id: string | null
  generation: number
  created_at: Generated<Date>
  expires_at: Date
  revoked_at: Date | null
}

interface PersonasTable {
  organization_id: string
  id: Generated<string>
  name: string
  description: string | null
  user_id: string | null
  metadata: ColumnType<Record<string, unknown> | null, string | null, string | null>
  is_active: Generated<boolean>
  current_version: Generated<number>
  rollout_sticky_by: Generated<string>
  created_at: Generated<Date>
  updated_at: Generated<Date>
  deleted_at: Date | null
}

interface PersonaVersionsTable {
  organization_id: string
  persona_id: string
  version: number
  content: string
  variables: ColumnType<Record<string, string | null>, string, never>
  created_at: Generated<Date>
  created_by: string
}

interface PersonaDefaultsTable {
  organization_id: string
  scope: string
  target_id: string
  persona_id: string
  created_at: Generated<Date>
}

interface SessionsTable {
  organization_id: string
  owner_id: string
  session_id: string
  user_id: string | null
  started_at: Date
  last_request_at: Date
}

export interface AttemptsTable {
  organization_id: string
  attempt_id: string
  opened_at: Date
  settled_at: Date
  request_id: string
  attempt_number: number
  endpoint: string
  user_id: string | null
  api_key_id: string
  persona_id: string | null
  persona_version: number | null
  session_id: string
  model_requested: string | null
  model_used: string | null
  service_tier: string | null
  is_stream: boolean
  status: string
  http_status: number | null
  error_code: string | null
  response_id: string | null
  upstream_request_id: string | null
  usage_source: string
  input_tokens: bigint | null
  cached_tokens: bigint | null
  cache_write_tokens: bigint | null
  output_tokens: bigint | null
  reasoning_tokens: bigint | null
  total_tokens: bigint | null
  usage: ColumnType<unknown, string | null, string | null>
  usage_parts: ColumnType<unknown, string | null, string | null>
  web_search_calls: Generated<number>
  file_search_calls: Generated<number>
  cost_nano_usd: bigint | null
  price_version: string | null
  first_byte_ms: number | null
  duration_ms: number
  is_superseded: Generated<boolean>
}

interface ContentsTable {
  organization_id: string
  attempt_id: string
  kind: string
  sealed: Buffer
  original_bytes: bigint
  is_cut: boolean
  created_at: Date
  expires_at: Date
}

interface RatingsTable {
  organization_id: string
  request_id: string
  response_id: string | null
  rating: number
  feedback: string | null
  rated_at: Generated<Date>
}

interface UpstreamObjectsTable {
  organization_id: string
  object_id: string
  kind: string
  user_id: string | null
  api_key_id: string
  persona_id: string | null
  persona_version: number | null
  created_at: Generated<Date>
  deleted_at: Date | null
  is_shared: Generated<boolean>
}

interface ReplicasTable {
  id: string
  version: string
  name: string | null
  started_at: Generated<Date>
  last_seen_at: Generated<Date>
  unshipped_records: bigint
  journal_bytes: bigint
}

interface AuditLogTable {
  organization_id: string
  sequence: bigint
  at: Date
  actor: string
  action: string
  target: string
  details: ColumnType<unknown, string, never>
  previous_hash: Buffer
  hash: Buffer
}
