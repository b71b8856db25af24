import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startSystem } from './harness.ts'
import { askUntil } from './poll.ts'

const system = await startSystem()

test("an answer is retrieved, listed and deleted by its maker with OpenAI's SDK; one create and a hundred reads are one charge", async () => {
  const organization = await system.organization()
  const client = organization.client()
  const answer = await client.responses.create({ model: 'gpt-4o-mini', input: 'What is the capital of France?' })

  const read = await Promise.all(Array.from({ length: 100 }, () => client.responses.retrieve(answer.id)))
  const items = await client.responses.inputItems.list(answer.id)
  await client.responses.delete(answer.id)

  assert.ok(read.every(({ id, output_text }) => id === answer.id && output_text === answer.output_text))
  assert.equal(items.data.length, 1)
  await assert.rejects(client.responses.retrieve(answer.id), { status: 404 })
  const rows = await system.query('select * from attempts where organization_id = $1', [organization.id])
  assert.equal(rows.length, 1)
})

test("C33: another user's, another organization's and an unknown answer are the same 404, and OpenAI is not asked", async () => {
  const [owner, stranger] = [await system.organization(), await system.organization()]
  const { id } = await owner.client().responses.create({ model: 'gpt-4o-mini', input: 'mine' })
  const callsBefore = system.simulator.ledger.entries().length
  const paths = (of: string) => [
    ['GET', `/v1/responses/${of}`],
    ['GET', `/v1/responses/${of}?stream=true&starting_after=0`],
    ['DELETE', `/v1/responses/${of}`],
    ['POST', `/v1/responses/${of}/cancel`],
    ['GET', `/v1/responses/${of}/input_items`],
  ]
  const bodies = new Set<string>()

  for (const [method, path] of paths(id) as [string, string][]) {
    for (const [organization, userId] of [
      [stranger, 'alice'],
      [owner, 'bob'],
    ] as const) {
      const answer = await organization.fetch(path, { method, userId })
      assert.equal(answer.status, 404, `${method} ${path}`)
      bodies.add(await answer.text())
    }
  }
  for (const [method, path] of paths('resp_unknown') as [string, string][]) {
    const answer = await owner.fetch(path, { method })
    assert.equal(answer.status, 404)
    bodies.add(await answer.text())
  }

  assert.equal(bodies.size, 1)
  assert.equal(system.simulator.ledger.entries().length, callsBefore)
})

test('a query goes on byte for byte', async () => {
  const organization = await system.organization()

  await organization.fetch('/v1/responses?beta=true&x=%2F..&include[]=a', {
    method: 'POST',
    body: '{"model":"gpt-4o-mini","input":"hi"}',
  })

  assert.equal(system.simulator.ledger.entries().at(-1)?.path, '/v1/responses?beta=true&x=%2F..&include[]=a')
})

test('a background response that is cancelled is settled once, as cancelled', async () => {
  const organization = await system.organization()
  const client = organization.client()
  const model = 'sim:background_ms=5000,tokens=20,model=gpt-4o-mini'
  const { id } = await client.responses.create({ model, input: 'never mind', background: true })

  const cancelled = await client.responses.cancel(id)

  assert.equal(cancelled.status, 'cancelled')
  const rows = await askUntil(
    () => system.query('select * from attempts where organization_id = $1', [organization.id]),
    (found) => found.length > 0,
  )
  assert.deepEqual(
    rows.map(({ status }) => status),
    ['cancelled'],
  )
})
