import assert from 'node:assert/strict'
import { hash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import OpenAI from 'openai'
import type { LedgerEntry } from './ledger.ts'
import { startSimulator } from './server.ts'

test('every call has one entry with its bytes, its tokens and its end, and no key', async () => {
  await using simulator = await startSimulator()
  const body = '{"model":"gpt-5","input":"hello","stream":true}'
  const answer = await fetch(`${simulator.url}/responses?beta=true`, {
    method: 'POST',
    headers: { authorization: 'Bearer sk-secret', 'x-marker': 'm1' },
    body,
  })
  const text = await answer.text()
  await simulator.ledger.idle()

  const [entry, ...others] = simulator.ledger.entries()
  assert.equal(others.length, 0)
  assert.partialDeepStrictEqual(entry, {
    id: 1,
    method: 'POST',
    path: '/v1/responses?beta=true',
    keyHash: hash('sha256', 'sk-secret'),
    model: 'gpt-5',
    stream: true,
    status: 200,
    bodySha256: hash('sha256', body),
    usage: { input_tokens: 2, output_tokens: 3 },
    terminalSent: true,
    finished: true,
    clientClosed: false,
    bytesSent: Buffer.byteLength(text),
    bodyOutSha256: hash('sha256', text),
  })
  assert.equal(entry?.requestHeaders['x-marker'], 'm1')
  assert.ok(text.includes(entry.responseId ?? 'none'))
  assert.ok(!JSON.stringify(entry).includes('sk-secret'))
})

test('the ledger is read and emptied over HTTP', async () => {
  await using simulator = await startSimulator()
  const root = simulator.url.replace('/v1', '/__sim')
  await fetch(`${simulator.url}/models`)
  await simulator.ledger.idle()

  const read = async () => (await (await fetch(`${root}/ledger`)).json()) as { entries: LedgerEntry[] }
  assert.deepEqual(
    (await read()).entries.map(({ path, status }) => [path, status]),
    [['/v1/models', 401]],
  )
  assert.equal((await fetch(`${root}/ledger`, { method: 'DELETE' })).status, 204)
  assert.equal((await read()).entries.length, 0)
  assert.deepEqual(await (await fetch(`${root}/sockets`)).json(), { open: simulator.openSockets() })
})

test('the ledger file has a line for each call, those that were broken off included', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'simulator-'))
  t.after(() => rm(directory, { recursive: true }))
  const ledgerFile = join(directory, 'ledger.jsonl')
  {
    await using simulator = await startSimulator({ ledgerFile })
    const client = new OpenAI({ baseURL: simulator.url, apiKey: 'sk-test', maxRetries: 0 })
    await client.responses.create({ model: 'gpt-5', input: 'x' })
    await client.responses.create({ model: 'gpt-5', input: 'x', background: true })
    await client.responses.create({ model: 'sim:stall_after=5', input: 'x', stream: true })
  }

  const lines = (await readFile(ledgerFile, 'utf8'))
    .trimEnd()
    .split('\n')
    .map((line): LedgerEntry => JSON.parse(line))
  assert.deepEqual(lines.map(({ id }) => id).sort(), [1, 2, 3])
  assert.equal(lines.find(({ id }) => id === 3)?.finished, false)
})

test('sockets are counted while they are open, and no longer', { timeout: 10_000 }, async () => {
  await using simulator = await startSimulator()
  const before = simulator.openSockets()
  // Not fetch: it replaces a connection that it has aborted by a fresh one.
  const headers = { authorization: 'Bearer sk-test' }
  const call = request(`${simulator.url}/responses`, { method: 'POST', headers, agent: false })
  call.end('{"model":"sim:stall_after=1","input":"x","stream":true}')
  await once(call, 'response')
  const during = simulator.openSockets()
  call.destroy()
  while (simulator.openSockets() > 0) await setImmediate()

  assert.deepEqual([before, during], [0, 1])
})
