/** The real Codex CLI, as it is, with a base URL and a key changed and nothing else. Run by `npm run test:codex`. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, test } from 'node:test'
import { updatePolicies } from '../../src/organizations/policies.ts'
import { startSystem, type TestOrganization, temporaryDirectory } from '../harness.ts'

const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())
const system = await startSystem()
const { ledger } = system.simulator
const BUILT_IN = `openai_base_url = "${system.url}/v1"\n`
const OF_ITS_OWN = `model_provider = "proxy"
[model_providers.proxy]
name = "proxy"
base_url = "${system.url}/v1"
env_key = "CODEX_API_KEY"
wire_api = "responses"
`

test('in its default configuration Codex talks over a WebSocket, and each of its responses is a row of its user', async () => {
  const organization = await system.organization()
  const { syntheticKey, userId } = await keyOf(organization)

  const { output } = await codex(BUILT_IN, syntheticKey, 'say hi')

  assert.match(output, /You said: say hi/)
  const rows = await rowsOf(organization)
  assert.ok(rows.length > 0 && rows.every((row) => row.endpoint === 'responses.websocket' && row.user_id === userId))
  assertServed(rows)
})

test('where the organization refuses WebSockets, the same Codex falls back to HTTP', async () => {
  const organization = await system.organization()
  const { syntheticKey } = await keyOf(organization)
  await updatePolicies(system.server.context, organization.admin, { websockets: 'refuse' })

  const { output } = await codex(BUILT_IN, syntheticKey, 'say hi')

  assert.match(output, /You said: say hi/)
  const rows = await rowsOf(organization)
  assert.ok(rows.length > 0 && rows.every(({ endpoint }) => endpoint === 'responses.create'))
  assertServed(rows)
})

test('with a provider of its own, Codex talks over HTTP', async () => {
  const organization = await system.organization()
  const { syntheticKey } = await keyOf(organization)

  const { output } = await codex(OF_ITS_OWN, syntheticKey, 'say hi')

  assert.match(output, /You said: say hi/)
  const rows = await rowsOf(organization)
  assert.ok(rows.length > 0 && rows.every(({ endpoint }) => endpoint === 'responses.create'))
  assertServed(rows)
})

test('a key that is revoked is told to Codex, and OpenAI is not asked', async () => {
  const before = ledger.entries().length

  const { output, code } = await codex(OF_ITS_OWN, 'sk-proxy-unknown', 'say hi')

  assert.notEqual(code, 0)
  assert.match(output, /401|Invalid authentication/)
  assert.equal(ledger.entries().length, before)
})

async function keyOf(organization: TestOrganization) {
  const userId = await organization.createUser('developer')
  const { syntheticKey } = await organization.createKey({ userId })
  return { syntheticKey, userId }
}

/** @param config of `~/.codex/config.toml`. */
async function codex(config: string, apiKey: string, prompt: string): Promise<{ output: string; code: number | null }> {
  const home = await temporaryDirectory(stack)
  await writeFile(join(home, 'config.toml'), config)
  const child = spawn(String(process.env.CODEX), ['exec', '--skip-git-repo-check', prompt], {
    cwd: home,
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: RUN_TIMEOUT_MS,
    env: {
      PATH: process.env.PATH,
      HOME: home,
      CODEX_HOME: home,
      CODEX_API_KEY: apiKey,
      // For where there is no namespace without a network: whatever goes elsewhere than to this machine goes nowhere.
      HTTPS_PROXY: 'http://127.0.0.1:9',
    },
  })
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'exit')])
  return { output: `${stdout}\n${stderr}`, code }
}

const RUN_TIMEOUT_MS = 60_000

interface Row extends Record<string, unknown> {
  endpoint: string
  user_id: string
  response_id: string
  status: string
}

function rowsOf(organization: TestOrganization): Promise<Row[]> {
  return system.query<Row>('select * from attempts where organization_id = $1 order by opened_at', [organization.id])
}

/** What is in the rows is what the simulated OpenAI has in its own ledger. */
function assertServed(rows: readonly Row[]): void {
  for (const row of rows) {
    const used = ledger.entries().find(({ responseId }) => responseId === row.response_id)?.usage
    assert.partialDeepStrictEqual(row, {
      status: 'completed',
      input_tokens: String(used?.input_tokens),
      output_tokens: String(used?.output_tokens),
    })
  }
}
