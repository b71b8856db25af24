import { getApiKey } from '../api-keys/service.ts'
import type { Caller } from '../auth/caller.ts'
import type { Db } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { formatDecimal, formatUsd } from '../ledger/money.ts'
import type { RecordedRequest } from '../ledger/service.ts'
import { getUser } from '../users/service.ts'
import { type Column, formatTable } from './output.ts'

/** A recorded request with the names of those it mentions, as far as they are still there. */
export interface NamedRequest {
  row: RecordedRequest
  externalUserId: string | undefined
  keyName: string | undefined
}

export async function nameRequests(deps: { db: Db }, caller: Caller, rows: RecordedRequest[]): Promise<NamedRequest[]> {
  const users = await readEach(
    rows.map((row) => row.user_id),
    async (id) => (await getUser(deps, caller, id)).externalId,
  )
  const keys = await readEach(
    rows.map((row) => row.api_key_id),
    async (id) => {
      const apiKey = await getApiKey(deps, caller, id)
      return apiKey.name ?? apiKey.syntheticKeyPrefix
    },
  )
  return rows.map((row) => ({
    row,
    externalUserId: row.user_id === null ? undefined : users.get(row.user_id),
    keyName: keys.get(row.api_key_id),
  }))
}

export function formatRequests(requests: readonly NamedRequest[]): string[] {
  return formatTable(COLUMNS, requests)
}

/** Money as decimal digits: JSON's numbers are floats to most readers. */
export function toRequestDocument({ row, externalUserId, keyName }: NamedRequest) {
  return {
    request_id: row.request_id,
    response_id: row.response_id,
    opened_at: row.opened_at.toISOString(),
    settled_at: row.settled_at.toISOString(),
    endpoint: row.endpoint,
    user_id: row.user_id,
    external_user_id: externalUserId ?? null,
    api_key_id: row.api_key_id,
    api_key_name: keyName ?? null,
    session_id: row.session_id,
    persona_id: row.persona_id,
    persona_version: row.persona_version,
    model_requested: row.model_requested,
    model_used: row.model_used,
    stream: row.is_stream,
    status: row.status,
    http_status: row.http_status,
    error_code: row.error_code,
    usage_source: row.usage_source,
    input_tokens: toNumber(row.input_tokens),
    cached_tokens: toNumber(row.cached_tokens),
    output_tokens: toNumber(row.output_tokens),
    reasoning_tokens: toNumber(row.reasoning_tokens),
    total_tokens: toNumber(row.total_tokens),
    cost_usd: row.cost_nano_usd === null ? null : formatDecimal(row.cost_nano_usd, 9, 2),
    first_byte_ms: row.first_byte_ms,
    duration_ms: row.duration_ms,
  }
}

const COLUMNS: Column<NamedRequest>[] = [
  { title: 'Time (UTC)', value: ({ row }) => row.opened_at.toISOString().slice(0, 19).replace('T', ' ') },
  { title: 'Request', value: ({ row }) => row.request_id },
  { title: 'User', value: ({ row, externalUserId }) => externalUserId ?? row.user_id ?? '-' },
  { title: 'Key', value: ({ row, keyName }) => keyName ?? row.api_key_id },
  { title: 'Model', value: ({ row }) => row.model_used ?? row.model_requested ?? '-' },
  { title: 'Status', value: ({ row }) => row.status },
  { title: 'In', align: 'right', value: ({ row }) => count(row.input_tokens) },
  { title: 'Cached', align: 'right', value: ({ row }) => count(row.cached_tokens) },
  { title: 'Out', align: 'right', value: ({ row }) => count(row.output_tokens) },
  { title: 'Cost', align: 'right', value: ({ row }) => formatCost(row.cost_nano_usd) },
  { title: 'First byte', align: 'right', value: ({ row }) => milliseconds(row.first_byte_ms) },
  { title: 'Total', align: 'right', value: ({ row }) => milliseconds(row.duration_ms) },
]

/** A model without a price is unpriced, which is not free. */
export function formatCost(nanoUsd: bigint | null): string {
  return nanoUsd === null ? 'unpriced' : formatUsd(nanoUsd)
}

export function count(tokens: bigint | null): string {
  return tokens === null ? '-' : String(tokens)
}

export function milliseconds(value: number | null): string {
  return value === null ? '-' : `${value} ms`
}

/** Each id once; those that are gone have no entry. */
async function readEach(
  ids: (string | null)[],
  read: (id: string) => Promise<string>,
): Promise<ReadonlyMap<string, string>> {
  const names = new Map<string, string>()
  for (const id of new Set(ids)) {
    if (id === null) continue
    try {
      names.set(id, await read(id))
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== 'not_found') throw error
    }
  }
  return names
}

function toNumber(tokens: bigint | null): number | null {
  return tokens === null ? null : Number(tokens)
}
