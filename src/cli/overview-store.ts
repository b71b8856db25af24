import { sql } from 'kysely'
import type { Tx } from '../db/database.ts'

/** Counts over the whole installation, for its operator. */
export interface Overview {
  organizations: bigint
  users: bigint
  active_keys: bigint
  valid_tokens: bigint
  requests: bigint
  unpriced_requests: bigint
  cost_nano_usd: bigint
}

export async function readOverview(tx: Tx): Promise<Overview> {
  const { rows } = await sql<Overview>`
    select
      (select count(*) from organizations) as organizations,
      (select count(*) from users where deleted_at is null) as users,
      (select count(*) from api_keys where is_active) as active_keys,
      (
        select count(*) from tokens join organizations on organizations.id = tokens.organization_id
        where revoked_at is null and expires_at > now() and generation = token_generation
      ) as valid_tokens,
      recent.*
    from (
      select
        count(*) filter (where not is_superseded) as requests,
        count(*) filter (where cost_nano_usd is null) as unpriced_requests,
        coalesce(sum(cost_nano_usd), 0)::bigint as cost_nano_usd
      from attempts where opened_at > now() - interval '24 hours'
    ) as recent`.execute(tx)
  const [overview] = rows
  if (!overview) throw new Error('An aggregate without groups has one row.')
  return overview
}

export async function readServerVersion(tx: Tx): Promise<string> {
  const { rows } = await sql<{ version: string }>`select current_setting('server_version') as version`.execute(tx)
  return rows[0]?.version.split(' ')[0] ?? ''
}
