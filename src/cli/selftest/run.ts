import { randomBytes } from 'node:crypto'
import type { Secret } from '../../secret.ts'
import { CHECKS } from './checks.ts'
import { NoAnswer, openClient, type SelftestClient } from './client.ts'
import { CheckFailed, CheckSkipped, type Walk } from './walk.ts'

export interface Finding {
  name: string
  state: 'ok' | 'failed' | 'skipped'
  /** What was seen; of a failure also what to do. */
  detail: string
}

/** Makes every check in turn and reports each as it is done; removes what was made. */
export async function runSelftest(
  target: {
    url: string
    adminUrl: string
    token: Secret
    model: string
    user: string | undefined
    signal: AbortSignal
  },
  report: (finding: Finding) => void,
): Promise<Finding[]> {
  const walk: Walk = {
    ...openClient(target),
    model: target.model,
    user: target.user,
    prefix: `selftest-${randomBytes(6).toString('hex')}`,
    admin: 'not known yet',
    cleanUp: [],
    requestId: undefined,
  }
  const findings: Finding[] = []
  const add = (finding: Finding) => {
    // A server's own words are passed on: should they ever hold the token, they do not here.
    const detail = finding.detail.replaceAll(target.token.reveal(), '[token]')
    findings.push({ ...finding, detail })
    report({ ...finding, detail })
  }
  let isOver = false
  for (const { name, run } of CHECKS) {
    const finding: Found = isOver
      ? { name, state: 'skipped', detail: 'not tried after the failure above.' }
      : await findOut(name, () => run(walk))
    isOver ||= finding.isFatal === true
    add({ name, state: finding.state, detail: finding.detail })
  }
  const undone = await undo(walk, openClient({ ...target, signal: new AbortController().signal }))
  if (undone) add(undone)
  return findings
}

interface Found extends Finding {
  isFatal?: boolean
}

async function findOut(name: string, run: () => Promise<string>): Promise<Found> {
  try {
    return { name, state: 'ok', detail: await run() }
  } catch (error) {
    if (error instanceof CheckSkipped) return { name, state: 'skipped', detail: error.message }
    if (error instanceof CheckFailed) return { name, state: 'failed', detail: error.message, isFatal: error.isFatal }
    if (error instanceof NoAnswer) return { name, state: 'failed', detail: error.message, isFatal: true }
    throw error
  }
}

/** With a client that an interruption does not reach. */
async function undo(walk: Walk, client: SelftestClient): Promise<Finding | undefined> {
  if (walk.cleanUp.length === 0) return undefined
  walk.call = client.call
  return findOut('clean-up', async () => {
    const failures: unknown[] = []
    for (const step of walk.cleanUp.toReversed()) await step().catch((error: unknown) => failures.push(error))
    if (failures.length > 0) throw failures[0]
    return 'what was made is gone; the requests stay on record, as all do.'
  })
}
