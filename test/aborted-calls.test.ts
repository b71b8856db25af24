import assert from 'node:assert/strict'
import { Agent, type ClientRequest, type IncomingMessage, request } from 'node:http'
import { test } from 'node:test'
import { updatePolicies } from '../src/organizations/policies.ts'
import { Secret } from '../src/secret.ts'
import { startSystem, type TestOrganization } from './harness.ts'

const ABORTED = 2000
const CHECKED = 200
const AT_ONCE = 40

const system = await startSystem()
/** Connections are used again by whichever organization comes next, as a load balancer would. */
const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE })

test("2,000 aborted calls among 200 checked ones on pooled connections: every answer is one's own, whole and alone", {
  timeout: 300_000,
}, async () => {
  const organizations = await Promise.all((['abort', 'drain', 'abort', 'drain'] as const).map(newOrganization))
  const turns = Array.from({ length: ABORTED + CHECKED }, (_, turn) => turn)
  const seen = { aborted: 0, checked: 0 }

  await Promise.all(Array.from({ length: AT_ONCE }, worker))

  assert.deepEqual(seen, { aborted: ABORTED, checked: CHECKED })
  agent.destroy()

  async function worker(): Promise<void> {
    for (let turn = turns.shift(); turn !== undefined; turn = turns.shift()) {
      const organization = organizations[turn % organizations.length] as TestOrganization
      const canary = `canary-${turn}-${organization.id}`
      if (turn % ((ABORTED + CHECKED) / CHECKED) === 0) {
        await check(organization, canary, turn)
        seen.checked++
      } else {
        await abort(organization, canary, turn)
        seen.aborted++
      }
    }
  }
})

async function check(organization: TestOrganization, canary: string, turn: number): Promise<void> {
  const call = open(organization, canary, 'gpt-4o-mini', turn % 2 === 0)
  const { status, text } = await answerOf(call)
  assert.equal(status, 200, text)
  assert.deepEqual([...new Set(text.match(/canary-[\w-]+/g))], [canary])
  if (turn % 2 === 0) {
    assert.match(text, /^event: response\.created\n/)
    assert.equal(text.match(/"type":"response\.completed"/g)?.length, 1)
  } else assert.equal(JSON.parse(text).status, 'completed')
}

/** Hangs up before the answer, at its head, or in the middle of it. */
async function abort(organization: TestOrganization, canary: string, turn: number): Promise<void> {
  const call = open(
    organization,
    canary,
    ['gpt-4o-mini', 'sim:tokens=30,tps=300', 'sim:delay=5'][turn % 3] ?? '',
    turn % 2 === 0,
  )
  const closed = new Promise<void>((resolve) => call.once('close', () => resolve()))
  call.on('error', () => {})
  switch (turn % 4) {
    case 0:
      setImmediate(() => call.destroy())
      break
    case 1:
      call.once('response', () => call.destroy())
      break
    default:
      call.once('response', (answer) => answer.once('data', () => call.destroy()))
  }
  await closed
}

function open(organization: TestOrganization, canary: string, model: string, stream: boolean): ClientRequest {
  const body = JSON.stringify({ model, stream, instructions: canary, input: canary })
  const call = request(`${system.url}/v1/responses`, {
    method: 'POST',
    agent,
    headers: {
      authorization: `Bearer ${organization.syntheticKey}`,
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
    },
  })
  call.end(body)
  return call
}

async function answerOf(call: ClientRequest): Promise<{ status: number | undefined; text: string }> {
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    call.once('response', resolve)
    call.once('error', reject)
  })
  let text = ''
  for await (const chunk of answer.setEncoding('utf8')) text += chunk
  return { status: answer.statusCode, text }
}

/** All of them share one upstream key, and so one project and one pool of connections. */
async function newOrganization(clientGone: 'abort' | 'drain'): Promise<TestOrganization> {
  const organization = await system.organization()
  await updatePolicies(system.server.context, organization.admin, { clientGone })
  const { syntheticKey } = await organization.createKey({ upstreamKey: new Secret('sk-shared-0123456789abcdef') })
  return { ...organization, syntheticKey }
}
