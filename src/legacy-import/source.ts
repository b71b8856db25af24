/** The earlier system's database: read, never written. */
import pg from 'pg'
import { parseIntoClientConfig } from 'pg-connection-string'
import { AppError } from '../errors.ts'
import type { Secret } from '../secret.ts'

export interface LegacyOrganization {
  id: string
  name: string
  created_at: string | null
  updated_at: string | null
}

export interface LegacyUser {
  id: string
  organization_id: string
  user_id: string
  created_at: string | null
}

export interface LegacyApiKey {
  id: string
  organization_id: string
  user_id: string | null
  synthetic_key: string
  openai_api_key: string
  is_active: boolean | null
  name: string | null
  description: string | null
  created_at: string | null
  updated_at: string | null
}

export interface LegacyPersona {
  id: string
  organization_id: string
  user_id: string | null
  name: string
  description: string | null
  content: string
  metadata: unknown
  is_active: boolean | null
  created_at: string | null
  updated_at: string | null
}

export interface LegacyUsage {
  input_tokens: number | null
  output_tokens: number | null
  reasoning_tokens: number | null
  total_tokens: number | null
  model: string | null
  /** As decimal digits: money is never a float. */
  cost_usd: string | null
}

export interface LegacyRequest {
  id: string
  request_id: string
  response_id: string | null
  session_id: string
  user_id: string
  user_organization_id: string
  api_key_id: string
  key_organization_id: string
  persona_id: string | null
  model: string
  status: string
  error_message: string | null
  rating: number | null
  rating_feedback: string | null
  rating_timestamp: string | null
  created_at: string | null
  completed_at: string | null
  usage: LegacyUsage[] | null
  /** JSON texts; undefined when they are too large to be read. */
  request_payload: string | null
  response_payload: string | null
}

export interface LegacySource extends AsyncDisposable {
  organizations(): Promise<LegacyOrganization[]>
  users(): Promise<LegacyUser[]>
  apiKeys(): Promise<LegacyApiKey[]>
  personas(): Promise<LegacyPersona[]>
  /** Oldest first, some at a time. */
  requests(): AsyncGenerator<LegacyRequest[]>
  /** How many rows a table has; 0 when there is no such table. */
  count(table: 'requests' | 'sessions' | 'analysis_configs' | 'analysis_results'): Promise<number>
}

/**
 * @param timeZone of the host that the earlier system ran on: it wrote the UTC time of its ends and ratings as if it were local.
 * @throws {AppError} when it cannot be reached, or is something else.
 */
export async function openSource(url: Secret, timeZone: string): Promise<LegacySource> {
  const client = new pg.Client({
    ...parseIntoClientConfig(url.reveal()),
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    application_name: 'openai-proxy import-legacy',
  })
  client.on('error', () => {})
  try {
    await client.connect()
  } catch {
    throw new AppError(
      'database_unavailable',
      "The earlier system's database cannot be reached: check host, port, user and password of its URL.",
    )
  }
  try {
    // One moment for all tables, and nothing that could be written by mistake.
    await client.query('begin transaction isolation level repeatable read read only')
    await client.query("set local time zone 'UTC'")
    const columns = await readColumns(client)
    await requireTimeZone(client, timeZone)
    return sourceOf(client, columns, timeZone)
  } catch (error) {
    await client.end()
    throw error
  }
}

const CONNECT_TIMEOUT_MS = 10_000
const PAGE = 100
const PAYLOAD_BYTES_MAX = 1024 * 1024
const REQUIRED: Record<string, string[]> = {
  organizations: ['id', 'name', 'created_at', 'updated_at'],
  users: ['id', 'organization_id', 'user_id', 'created_at'],
  api_keys: ['id', 'organization_id', 'user_id', 'synthetic_key', 'openai_api_key', 'is_active'],
  sessions: ['id', 'user_id', 'session_id'],
  requests: ['id', 'request_id', 'session_id', 'user_id', 'api_key_id', 'model', 'request_payload', 'status'],
  usage_logs: ['request_id', 'input_tokens', 'output_tokens', 'cost_usd'],
}

async function readColumns(client: pg.Client): Promise<Set<string>> {
  const { rows } = await client.query<{ name: string }>(
    `select table_name || '.' || column_name as name from information_schema.columns where table_schema = current_schema()`,
  )
  const columns = new Set(rows.map(({ name }) => name))
  const missing = Object.entries(REQUIRED).flatMap(([table, names]) =>
    names.map((name) => `${table}.${name}`).filter((name) => !columns.has(name)),
  )
  if (missing.length === 0) return columns
  throw new AppError(
    'invalid_request',
    `That is no database of the earlier system: it lacks ${missing.slice(0, 3).join(', ')}${missing.length > 3 ? ' and more' : ''}.`,
  )
}

async function requireTimeZone(client: pg.Client, timeZone: string): Promise<void> {
  const { rowCount } = await client.query('select from pg_timezone_names where name = $1', [timeZone])
  if (rowCount) return
  throw new AppError('invalid_request', 'The time zone is a name such as UTC, Europe/Berlin or America/Los_Angeles.')
}

function sourceOf(client: pg.Client, columns: ReadonlySet<string>, timeZone: string): LegacySource {
  const hasTable = (table: string) => columns.has(`${table}.id`)
  /** A column, or null where an installation was never upgraded to have it. */
  const optional = (table: string, column: string, type: string) =>
    columns.has(`${table}.${column}`) ? `${table}.${column}` : `null::${type}`
  const time = (expression: string) => `to_json(${expression}) #>> '{}'`
  /** What was written as local time though it was UTC. */
  const mended = (expression: string) =>
    time(`(${expression} at time zone ${pg.escapeLiteral(timeZone)}) at time zone 'UTC'`)
  const list = async <T extends pg.QueryResultRow>(text: string) => (await client.query<T>(text)).rows

  return {
    organizations: () =>
      list(`select id, name, ${time('created_at')} as created_at, ${time('updated_at')} as updated_at
        from organizations order by created_at, id`),
    users: () =>
      list(
        `select id, organization_id, user_id, ${time('created_at')} as created_at from users order by created_at, id`,
      ),
    apiKeys: () =>
      list(`select id, organization_id, user_id, synthetic_key, openai_api_key, is_active,
        ${optional('api_keys', 'name', 'text')} as name, ${optional('api_keys', 'description', 'text')} as description,
        ${time(optional('api_keys', 'created_at', 'timestamptz'))} as created_at,
        ${time(optional('api_keys', 'updated_at', 'timestamptz'))} as updated_at
        from api_keys order by 9, id`),
    async personas() {
      if (!hasTable('personas')) return []
      return list(`select id, organization_id, user_id, name, description, content, is_active,
        ${optional('personas', 'persona_metadata', 'jsonb')} as metadata,
        ${time('created_at')} as created_at, ${time('updated_at')} as updated_at
        from personas order by created_at, id`)
    },
    async *requests() {
      // Neither sums nor payloads have an index: the sums are joined once for all, the payloads read by id.
      await client.query(`
        declare legacy_requests no scroll cursor for
        select requests.id, requests.request_id, requests.user_id, requests.api_key_id, requests.model, requests.status,
          sessions.session_id, users.organization_id as user_organization_id, api_keys.organization_id as key_organization_id,
          ${optional('requests', 'response_id', 'text')} as response_id,
          ${optional('requests', 'persona_id', 'uuid')} as persona_id,
          ${optional('requests', 'error_message', 'text')} as error_message,
          ${optional('requests', 'rating', 'integer')} as rating,
          ${optional('requests', 'rating_feedback', 'text')} as rating_feedback,
          ${mended(optional('requests', 'rating_timestamp', 'timestamptz'))} as rating_timestamp,
          ${time(optional('requests', 'created_at', 'timestamptz'))} as created_at,
          ${mended(optional('requests', 'completed_at', 'timestamptz'))} as completed_at,
          usage.logs as usage
        from requests
        join users on users.id = requests.user_id
        join api_keys on api_keys.id = requests.api_key_id
        join sessions on sessions.id = requests.session_id
        left join (
          select request_id, json_agg(json_build_object(
            'input_tokens', input_tokens, 'output_tokens', output_tokens,
            'reasoning_tokens', ${optional('usage_logs', 'reasoning_tokens', 'integer')},
            'total_tokens', ${optional('usage_logs', 'total_tokens', 'integer')},
            'model', ${optional('usage_logs', 'model', 'text')}, 'cost_usd', cost_usd::text
          )) as logs
          from usage_logs group by request_id
        ) as usage on usage.request_id = requests.id
        order by requests.created_at, requests.id`)
      for (;;) {
        const { rows } = await client.query<LegacyRequest>(`fetch ${PAGE} from legacy_requests`)
        if (rows.length === 0) return
        const payloads = await readPayloads(
          client,
          columns,
          rows.map(({ id }) => id),
        )
        yield rows.map((row) => ({
          ...row,
          ...(payloads.get(row.id) ?? { request_payload: null, response_payload: null }),
        }))
      }
    },
    async count(table) {
      if (!hasTable(table)) return 0
      const [row] = await list<{ count: string }>(`select count(*) from ${table}`)
      return Number(row?.count ?? 0)
    },
    [Symbol.asyncDispose]: () => client.end(),
  }
}

async function readPayloads(client: pg.Client, columns: ReadonlySet<string>, ids: readonly string[]) {
  const response = columns.has('requests.response_payload') ? 'response_payload::text' : 'null::text'
  const bounded = (text: string) => `case when octet_length(${text}) <= ${PAYLOAD_BYTES_MAX} then ${text} end`
  const { rows } = await client.query<{ id: string; request_payload: string | null; response_payload: string | null }>(
    `select id, ${bounded('request_payload::text')} as request_payload, ${bounded(response)} as response_payload
     from requests where id = any($1)`,
    [ids],
  )
  return new Map(rows.map((row) => [row.id, row]))
}
