/** A database as the earlier system leaves it, with what years of use bring. */
import { createCipheriv, createHmac, randomBytes, randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type pg from 'pg'
import { createDatabase } from '../harness.ts'

export interface LegacyDatabase {
  url: string
  client: pg.Client
  fernetKey: string
  organizationId: string
  otherId: string
  users: Record<'alice' | 'bob' | 'empty' | 'blanks' | 'foreign', string>
  keys: Record<'wide' | 'personal' | 'nullActive' | 'wrongFernet' | 'empty' | 'crossed', string>
  personas: Record<'plain' | 'braces' | 'empty' | 'long', string>
  /** Adds a request and gives its id. */
  request(values?: Partial<Request>): Promise<string>
}

interface Request {
  request_id: string
  response_id: string | null
  user: string
  key: string
  persona: string | null
  model: string
  status: string
  error: string | null
  rating: number | null
  feedback: string | null
  request: string
  response: string | null
  usage: [input: number | null, output: number | null, cost: string | null][]
  created_at: string | null
  completed_at: string | null
  rated_at: string | null
}

export const UPSTREAM_KEY = 'sk-legacy-0123456789abcdef'

export async function createLegacyDatabase(stack: AsyncDisposableStack): Promise<LegacyDatabase> {
  const { databaseUrl, client } = await createDatabase(stack)
  await client.query(await readFile(join(import.meta.dirname, 'schema.sql'), 'utf8'))
  const fernetKey = randomBytes(32).toString('base64url')
  const [organizationId, otherId] = [randomUUID(), randomUUID()]
  const insert = async (table: string, values: Record<string, unknown>) => {
    const id = randomUUID()
    const row = { id, ...values }
    const names = Object.keys(row)
    await client.query(
      `insert into ${table} (${names.join(', ')}) values (${names.map((_, at) => `$${at + 1}`).join(', ')})`,
      Object.values(row),
    )
    return row.id
  }
  await insert('organizations', { id: organizationId, name: 'Acme', created_at: '2025-07-01T00:00:00Z' })
  await insert('organizations', { id: otherId, name: 'Acme', created_at: null, updated_at: null })
  const user = (user_id: string, organization_id = organizationId) => insert('users', { organization_id, user_id })
  const users = {
    alice: await user('alice'),
    bob: await user('bob'),
    empty: await user(''),
    blanks: await user(' alice '),
    foreign: await user('alice', otherId),
  }
  const key = (values: Record<string, unknown> = {}, secret = UPSTREAM_KEY, sealedWith = fernetKey) =>
    insert('api_keys', {
      organization_id: organizationId,
      synthetic_key: `sk-proxy-${randomBytes(36).toString('base64').replaceAll(/[+/=]/g, 'x').slice(0, 48)}`,
      openai_api_key: sealFernet(sealedWith, secret),
      is_active: true,
      ...values,
    })
  const keys = {
    wide: await key({ name: 'wide', description: 'd'.repeat(5000) }),
    personal: await key({ user_id: users.alice }),
    nullActive: await key({ is_active: null }),
    wrongFernet: await key({}, UPSTREAM_KEY, randomBytes(32).toString('base64url')),
    empty: await key({}, ''),
    crossed: await key({ user_id: users.foreign }),
  }
  const persona = (name: string, content: string, values: Record<string, unknown> = {}) =>
    insert('personas', { organization_id: organizationId, name, content, is_active: true, ...values })
  const personas = {
    plain: await persona('Plain', 'Be plain.', { persona_metadata: { tags: ['a', 'b'], level: 3 } }),
    braces: await persona('Braces', 'Say {{hello}} twice: {{hello}}.', { user_id: users.bob }),
    empty: await persona('Empty', ''),
    long: await persona('n'.repeat(255), 'x', { is_active: null, persona_metadata: JSON.stringify(['no', 'object']) }),
  }
  await insert('analysis_configs', { organization_id: organizationId, name: 'c', config: '{}' })
  const sessions = new Map<string, string>()

  return {
    url: databaseUrl,
    client,
    fernetKey,
    organizationId,
    otherId,
    users,
    keys,
    personas,
    async request(values = {}) {
      const owner = values.user ?? users.alice
      const session =
        sessions.get(owner) ??
        (await insert('sessions', { user_id: owner, session_id: `sess_${randomBytes(16).toString('hex')}` }))
      sessions.set(owner, session)
      const id = await insert('requests', {
        request_id: values.request_id ?? `req_${randomBytes(16).toString('hex')}`,
        response_id: values.response_id ?? null,
        session_id: session,
        user_id: owner,
        api_key_id: values.key ?? keys.wide,
        persona_id: values.persona ?? null,
        model: values.model ?? 'gpt-4o',
        request_payload: values.request ?? '{"input":"Hello"}',
        response_payload: values.response ?? null,
        status: values.status ?? 'completed',
        error_message: values.error ?? null,
        rating: values.rating ?? null,
        rating_feedback: values.feedback ?? null,
        rating_timestamp: values.rated_at ?? null,
        created_at: values.created_at === undefined ? '2025-08-10T12:00:00.123456Z' : values.created_at,
        completed_at: values.completed_at === undefined ? '2025-08-10T12:00:02.623456Z' : values.completed_at,
      })
      for (const [input_tokens, output_tokens, cost_usd] of values.usage ?? []) {
        await insert('usage_logs', {
          request_id: id,
          input_tokens,
          output_tokens,
          reasoning_tokens: 0,
          total_tokens: (input_tokens ?? 0) + (output_tokens ?? 0),
          model: values.model ?? 'gpt-4o',
          cost_usd,
        })
      }
      return id
    },
  }
}

/** Fernet once more, from its specification, to seal what the import opens. */
export function sealFernet(key: string, plain: string): string {
  const bytes = Buffer.from(key, 'base64url')
  const iv = randomBytes(16)
  const cipher = createCipheriv('aes-128-cbc', bytes.subarray(16), iv)
  const time = Buffer.alloc(8)
  time.writeBigUInt64BE(1_750_000_000n)
  const signed = Buffer.concat([Buffer.from([0x80]), time, iv, cipher.update(plain), cipher.final()])
  const token = Buffer.concat([signed, createHmac('sha256', bytes.subarray(0, 16)).update(signed).digest()])
  const text = token.toString('base64url')
  return text.padEnd(Math.ceil(text.length / 4) * 4, '=')
}
