import { randomUUID } from 'node:crypto'
import pg from 'pg'

/** What was filled in, for whoever asks about it. */
export interface Filled {
  organizationId: string
  users: string[]
  personas: string[]
  days: number
}

const DAYS = 90
const USERS = 2000
const PERSONAS = 12
const KEYS = 6
const MODELS = ['gpt-5.5', 'gpt-5-mini', 'gpt-4.1', 'gpt-4o', 'gpt-4o-mini', 'o4-mini', 'gpt-4.1-nano', 'local-model']
/** Of all rows, those of the organization that is looked at; the others are of nine smaller ones. */
const SHARE = 0.9

/**
 * Fills attempts of the last ninety days, evenly over the hours, as the ledger would: triggers move the sums. Who asks is skewed (a few
 * users ask most), five requests make a session, one in twenty is rated, a few fail or have no price.
 */
export async function fill(
  connection: pg.ClientConfig,
  rows: number,
  onProgress: (done: number) => void,
): Promise<Filled> {
  const client = new pg.Client(connection)
  await client.connect()
  try {
    await client.query('set synchronous_commit = off')
    const organizations: Organization[] = []
    for (let index = 0; index < 10; index += 1) organizations.push(await newOrganization(client, index))
    let done = 0
    for (let day = DAYS - 1; day >= 0; day -= 1) {
      for (const [index, organization] of organizations.entries()) {
        const share = index === 0 ? SHARE : (1 - SHARE) / (organizations.length - 1)
        const upTo = Math.round((rows * share * (DAYS - day)) / DAYS)
        const count = upTo - organization.filled
        if (count > 0) await fillDay(client, organization, day, count)
        organization.filled = upTo
        done += count
        onProgress(done)
      }
    }
    await client.query('vacuum analyze')
    const [first] = organizations
    if (!first) throw new Error('There is an organization.')
    return { organizationId: first.id, users: first.users, personas: first.personas, days: DAYS }
  } finally {
    await client.end()
  }
}

interface Organization {
  id: string
  users: string[]
  keys: string[]
  personas: string[]
  filled: number
}

async function newOrganization(client: pg.Client, index: number): Promise<Organization> {
  const id = randomUUID()
  const ids = (length: number) => Array.from({ length }, () => randomUUID())
  const [users, keys, personas] = [ids(USERS), ids(KEYS), ids(PERSONAS)]
  await client.query('insert into organizations (id, name) values ($1, $2)', [id, `Organization ${index}`])
  await client.query(
    `insert into users (organization_id, id, external_id)
     select $1, id, 'user-' || position from unnest($2::uuid[]) with ordinality as users (id, position)`,
    [id, users],
  )
  await client.query(
    `insert into personas (organization_id, id, name)
     select $1, id, 'Persona ' || position from unnest($2::uuid[]) with ordinality as personas (id, position)`,
    [id, personas],
  )
  return { id, users, keys, personas, filled: 0 }
}

/** A day is the 24 hours that end as many days ago. */
async function fillDay(client: pg.Client, organization: Organization, day: number, count: number): Promise<void> {
  const end = Date.now() - day * 86_400_000
  await client.query(
    `insert into attempts (
       organization_id, attempt_id, opened_at, settled_at, request_id, endpoint, user_id, api_key_id, persona_id, persona_version,
       session_id, model_requested, model_used, is_stream, status, http_status, response_id, usage_source, input_tokens,
       cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, total_tokens, usage, cost_nano_usd, price_version,
       first_byte_ms, duration_ms
     )
     select
       $1, gen_random_uuid(), at, at + interval '2 seconds', 'req_' || replace(gen_random_uuid()::text, '-', ''), 'responses',
       ($2::uuid[])[who], ($3::uuid[])[1 + who % ${KEYS}],
       case when dice < 0.7 then ($4::uuid[])[1 + (who * 7 + number % 3) % ${PERSONAS}] end,
       case when dice < 0.7 then 1 + number % 3 end,
       'sess_' || who || '_' || (number / 5) || '_' || $5, model, model, number % 2 = 0,
       case when dice > 0.99 then 'client_closed' when dice > 0.97 then 'failed' else 'completed' end, 200,
       'resp_' || replace(gen_random_uuid()::text, '-', ''), 'reported', 900, 300, 0, 200, 50, 1100,
       '{"input_tokens": 900, "input_tokens_details": {"cached_tokens": 300}, "output_tokens": 200, "total_tokens": 1100}',
       case when model <> 'local-model' then 123456 end, '2026-11', 300, 2000
     from (
       select number, dice, to_timestamp($6::float8 / 1000 + number * 86400.0 / $7) as at,
         ($8::text[])[1 + floor(random() * random() * ${MODELS.length})::int] as model,
         -- Of one user for as long as a session lasts.
         1 + floor(${USERS} * power(abs(sin((number / 5) * 12.9898 + $5)), 3) * 0.999999)::int as who
       from (select number, random() as dice from generate_series(0, $7::int - 1) as numbers (number)) as numbers
     ) as requests`,
    [
      organization.id,
      organization.users,
      organization.keys,
      organization.personas,
      day,
      end - 86_400_000,
      count,
      MODELS,
    ],
  )
  await client.query(
    `insert into ratings (
       organization_id, request_id, response_id, rating, rated_at, rated_by, attempt_id, opened_at, user_id, api_key_id,
       persona_id, persona_version, session_id, model, cost_nano_usd
     )
     select organization_id, request_id, response_id, case when random() < 0.8 then 1 else -1 end, settled_at, 'bench', attempt_id,
       opened_at, user_id, api_key_id, persona_id, persona_version, session_id, model_used, cost_nano_usd
     from attempts
     where organization_id = $1 and opened_at >= to_timestamp($2::float8 / 1000)
       and opened_at < to_timestamp($3::float8 / 1000) and random() < 0.05`,
    [organization.id, end - 86_400_000, end],
  )
}
