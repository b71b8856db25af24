import { sql } from 'kysely'
import type { Tx } from '../db/database.ts'

/** A table as it is exported: all of its columns but secrets, in the order of a key. */
export interface ExportedTable {
  /** The `type` of its lines. */
  type: string
  table: string
  /** Beside the organization, with their types. */
  key: readonly (readonly [column: string, type: string])[]
  omit?: readonly string[]
}

/** What an organization consists of. Tables that are missing here are named in the test, with the reason. */
export const EXPORTED_TABLES: readonly ExportedTable[] = [
  { type: 'organization', table: 'organizations', key: [] },
  { type: 'policies', table: 'organization_policies', key: [] },
  { type: 'user', table: 'users', key: [['id', 'uuid']] },
  { type: 'api_key', table: 'api_keys', key: [['id', 'uuid']], omit: ['key_hash', 'upstream_key_sealed'] },
  { type: 'token', table: 'tokens', key: [['id', 'uuid']] },
  { type: 'persona', table: 'personas', key: [['id', 'uuid']] },
  {
    type: 'persona_version',
    table: 'persona_versions',
    key: [
      ['persona_id', 'uuid'],
      ['version', 'integer'],
    ],
  },
  {
    type: 'persona_rollout',
    table: 'persona_rollouts',
    key: [
      ['persona_id', 'uuid'],
      ['version', 'integer'],
    ],
  },
  {
    type: 'persona_default',
    table: 'persona_defaults',
    key: [
      ['scope', 'text'],
      ['target_id', 'uuid'],
    ],
  },
  {
    type: 'session',
    table: 'sessions',
    key: [
      ['owner_id', 'uuid'],
      ['session_id', 'text'],
    ],
  },
  {
    type: 'attempt',
    table: 'attempts',
    key: [
      ['opened_at', 'timestamptz'],
      ['attempt_id', 'uuid'],
    ],
  },
  { type: 'rating', table: 'ratings', key: [['request_id', 'text']] },
  {
    type: 'rating_history',
    table: 'rating_history',
    key: [
      ['request_id', 'text'],
      ['revision', 'integer'],
    ],
  },
  { type: 'upstream_object', table: 'upstream_objects', key: [['object_id', 'text']] },
  {
    type: 'usage_day',
    table: 'usage_daily',
    key: [
      ['day', 'date'],
      ['user_id', 'uuid'],
      ['api_key_id', 'uuid'],
      ['persona_id', 'uuid'],
      ['persona_version', 'integer'],
      ['model', 'text'],
    ],
  },
  { type: 'audit_entry', table: 'audit_log', key: [['sequence', 'bigint']] },
]

export interface Line {
  line: string
  /** The values of its key, as text. */
  at: string[]
}

/** Some rows of an organization as JSON texts, made where the rows are, so that numbers and times stay exact. */
export async function readLines(
  tx: Tx,
  organizationId: string,
  { type, table, key, omit = [] }: ExportedTable,
  after: readonly string[] | undefined,
  limit: number,
): Promise<Line[]> {
  const columns = key.map(([column]) => sql.ref(column))
  const own = table === 'organizations' ? sql`id` : sql`organization_id`
  const isBehind =
    after === undefined || key.length === 0
      ? sql`true`
      : sql`(${sql.join(columns)}) > (${sql.join(key.map(([, keyType], at) => sql`${after[at]}::${sql.raw(keyType)}`))})`
  const at = sql.join(columns.map((column) => sql`${column}::text`))
  const { rows } = await sql<Line>`
    select (jsonb_build_object('type', ${type}::text) || (to_jsonb(exported) - ${[...omit]}::text[]))::text as line,
      array[${at}]::text[] as at
    from ${sql.table(table)} as exported
    where ${own} = ${organizationId} and ${isBehind}
    ${key.length === 0 ? sql`` : sql`order by ${sql.join(columns)}`}
    limit ${limit}`.execute(tx)
  return rows
}

/** Times come out in UTC. */
export async function useUtc(tx: Tx): Promise<void> {
  await sql`select set_config('TimeZone', 'UTC', true)`.execute(tx)
}
