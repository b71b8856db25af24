import type { KeyRing, UpstreamKey } from '../api-keys/key-ring.ts'
import type { Vault } from '../api-keys/vault.ts'
import type { Db } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { readClock } from './store.ts'

/** In the words of the earlier system. */
export interface UpstreamHealth {
  status: 'healthy' | 'degraded'
  message: string
  openaiStatus: 'operational' | 'error' | 'unknown'
}

/** Asks OpenAI something that costs nothing. */
export type ProbeUpstream = (key: UpstreamKey) => Promise<'answers' | 'refuses_key' | 'unreachable'>

/** Whether a key resolves for this caller and OpenAI answers to it; spends no tokens. */
export async function checkUpstream(
  { keyRing, probeUpstream }: { keyRing: KeyRing; probeUpstream: ProbeUpstream },
  caller: { organizationId: string; userId: string | null; apiKeyId: string | undefined },
): Promise<UpstreamHealth> {
  let key: UpstreamKey
  try {
    key = await keyRing.choose(caller.organizationId, caller.userId, caller.apiKeyId, undefined)
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== 'no_api_key') throw error
    return { status: 'degraded', message: error.message, openaiStatus: 'unknown' }
  }
  const found = await probeUpstream(key)
  if (found === 'answers')
    return { status: 'healthy', message: 'OpenAI answers to the key in use.', openaiStatus: 'operational' }
  const message =
    found === 'refuses_key'
      ? 'OpenAI refuses the OpenAI key behind this API key.'
      : 'OpenAI cannot be reached, or is in trouble.'
  return { status: 'degraded', message, openaiStatus: 'error' }
}

export type Readiness = 'ready' | 'stopping' | 'no_database' | 'wrong_encryption_key' | 'clock_skew'

/**
 * Whether this process can take requests: it is not stopping, the database answers and was sealed under this process's key, and the
 * clocks agree, without which tokens would be refused here that are valid elsewhere.
 */
export async function checkReady(deps: { db: Db; vault: Vault; isStopping: () => boolean }): Promise<Readiness> {
  if (deps.isStopping()) return 'stopping'
  try {
    const skewMs = await deps.db.forOperator(async (tx) => {
      await deps.vault.check(tx)
      const sentAt = Date.now()
      const databaseTime = await readClock(tx)
      // Either side of the middle is the way there and back.
      return Math.abs((sentAt + Date.now()) / 2 - databaseTime.getTime()) - (Date.now() - sentAt) / 2
    })
    return skewMs > CLOCK_SKEW_MS_MAX ? 'clock_skew' : 'ready'
  } catch (error) {
    return error instanceof AppError && error.code === 'encryption_key_missing' ? 'wrong_encryption_key' : 'no_database'
  }
}

const CLOCK_SKEW_MS_MAX = 2000
