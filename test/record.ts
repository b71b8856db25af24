import { randomBytes, randomUUID } from 'node:crypto'
import type { System } from './harness.ts'

/** A row of `attempts`, as far as a test cares. */
export interface Recorded {
  at?: string | Date
  user?: string | null
  key?: string
  persona?: string | undefined
  version?: number
  session?: string
  model?: string | null
  status?: string
  request?: string
  attempt?: number
  response?: string | null
  input?: number
  output?: number
  /** In nano-dollars; null is unpriced. */
  cost?: number | null
  ms?: number
}

/** Writes rows as if they had been calls, at any time: what a test cannot wait for. All in one statement, like a batch of the ledger. */
export async function record(system: System, organizationId: string, rows: readonly Recorded[]): Promise<void> {
  const values = rows.map((row) => ({
    organization_id: organizationId,
    attempt_id: randomUUID(),
    opened_at: row.at ?? new Date(),
    settled_at: row.at ?? new Date(),
    request_id: row.request ?? `req_${randomBytes(16).toString('hex')}`,
    attempt_number: row.attempt ?? 1,
    endpoint: 'responses',
    user_id: row.user ?? null,
    api_key_id: row.key ?? '00000000-0000-4000-8000-000000000001',
    persona_id: row.persona ?? null,
    persona_version: row.version ?? null,
    session_id: row.session ?? 'sess_test',
    model_used: row.model === undefined ? 'gpt-4o' : row.model,
    is_stream: false,
    status: row.status ?? 'completed',
    response_id: row.response ?? null,
    usage_source: 'reported',
    input_tokens: row.input ?? 10,
    cached_tokens: 1,
    output_tokens: row.output ?? 5,
    cost_nano_usd: row.cost === undefined ? 1000 : row.cost,
    duration_ms: row.ms ?? 100,
  }))
  const columns = Object.keys(values[0] ?? {}).join(', ')
  await system.query(
    `insert into attempts (${columns}) select ${columns} from jsonb_populate_recordset(null::attempts, $1::jsonb)`,
    [JSON.stringify(values)],
  )
}

export async function addPersona(
  system: System,
  organizationId: string,
  persona: {
    id?: string
    name: string
    description?: string
    userId?: string
    isActive?: boolean
    isDeleted?: boolean
  },
): Promise<string> {
  const id = persona.id ?? randomUUID()
  await system.query(
    `insert into personas (organization_id, id, name, description, user_id, is_active, deleted_at)
     values ($1, $2, $3, $4, $5, $6, $7)`,
    [
      organizationId,
      id,
      persona.name,
      persona.description ?? null,
      persona.userId ?? null,
      persona.isActive ?? true,
      persona.isDeleted ? new Date() : null,
    ],
  )
  return id
}
