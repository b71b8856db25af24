/** Ids that clients put on items whose content they send, as Codex does: they serve, and never make a stranger's item the caller's. */
import assert from 'node:assert/strict'
import { hash } from 'node:crypto'
import { test } from 'node:test'
import { startSystem, type TestOrganization } from './harness.ts'

const system = await startSystem()
const MODEL = 'gpt-4o-mini'
const message = (id: string) => ({
  type: 'message',
  id,
  role: 'user',
  content: [{ type: 'input_text', text: 'hello' }],
})

async function ask(organization: TestOrganization, input: unknown, fields = {}, path = '/v1/responses') {
  const body = JSON.stringify({ model: MODEL, input, ...fields })
  const answer = await organization.fetch(path, { method: 'POST', body })
  return { status: answer.status, body: await answer.text() }
}

test('an id of the client’s own making on an item that is all there is taken out, and so is a stranger’s: both are served', async () => {
  const [mine, theirs] = [await system.organization(), await system.organization()]
  const foreign = (await theirs.client().responses.create({ model: MODEL, input: 'theirs' })).output[0]?.id ?? ''

  for (const id of ['msg_made-up-0001', foreign]) {
    const { status, body } = await ask(mine, [
      { type: 'additional_tools', id, role: 'developer', tools: [{ type: 'function', name: 'f', parameters: {} }] },
      { role: 'developer', type: 'message', id, content: 'Be brief.' },
      message(id),
      { type: 'function_call', id, call_id: 'call_1', name: 'f', arguments: '{}' },
      { type: 'function_call_output', id, call_id: 'call_1', output: 'done' },
    ])
    assert.equal(status, 200, body)
    const items = await mine.fetch(`/v1/responses/${JSON.parse(body).id}/input_items`)
    assert.ok(!(await items.text()).includes(id), 'OpenAI never heard of it')
    const reference = await ask(mine, [{ type: 'item_reference', id }])
    assert.equal(reference.status, 404)
  }
})

test('an id that is the caller’s own stays where it is, and every other byte too', async () => {
  const organization = await system.organization()
  const own = (await organization.client().responses.create({ model: MODEL, input: 'mine' })).output[0]?.id ?? ''
  const bodyWith = (label: string) =>
    `{"model":"${MODEL}","input":[ {"type":"message","id":"${own}","role":"assistant","content":"a\\u0062"} ,\n {${label}"type":"message", "role":"user","content":"hello","n":9223372036854775807} ],"store":true}`

  const answer = await organization.fetch('/v1/responses', { method: 'POST', body: bodyWith('"id":"msg_made-up",') })

  assert.equal(answer.status, 200)
  assert.equal(system.simulator.ledger.entries().at(-1)?.bodySha256, hash('sha256', bodyWith('')))
})

test('an item that OpenAI could take from its store must be the caller’s own, whatever else stands in it', async () => {
  const [mine, theirs] = [await system.organization(), await system.organization()]
  const foreign = (await theirs.client().responses.create({ model: MODEL, input: 'theirs' })).output[0]?.id ?? ''
  const items: ((id: string) => string)[] = [
    (id) => `{"type":"message","id":"${id}","role":"user","content":[]}`,
    (id) => `{"type":"message","id":"${id}","role":"user","content":null}`,
    (id) => `{"type":"message","id":"${id}","role":"user","content":""}`,
    (id) => `{"type":"message","id":"${id}","role":"user","content":"hi","content":null}`,
    (id) => `{"type":"item_reference","id":"${id}","content":"hi","type":"message"}`,
    (id) => `{"type":"message","id":"own","role":"user","content":"hi","id":"${id}"}`,
    (id) => `{"type":"item_reference","id":"${id}","content":"hi"}`,
    (id) => `{"type":"image_generation_call","id":"${id}","result":"aGk=","status":"completed"}`,
    (id) => `{"type":"reasoning","id":"${id}","summary":[],"encrypted_content":"abc"}`,
    (id) => `{"id":"${id}","role":"user","content":"hi"}`,
    (id) => `{"type":["message"],"id":"${id}","role":"user","content":"hi"}`,
  ]

  for (const item of items) {
    const [unknown, known] = await Promise.all(
      ['msg_made-up', foreign].map((id) =>
        mine.fetch('/v1/responses', { method: 'POST', body: `{"model":"${MODEL}","input":[${item(id)}]}` }),
      ),
    )
    assert.deepEqual([unknown?.status, known?.status], [404, 404], item('x'))
    assert.equal(await unknown?.text(), await known?.text())
  }
})

test('items of a conversation are made without such ids, and counted and compacted without them', async () => {
  const [mine, theirs] = [await system.organization(), await system.organization()]
  const foreign = (await theirs.client().responses.create({ model: MODEL, input: 'theirs' })).output[0]?.id ?? ''

  const made = await mine.fetch('/v1/conversations', {
    method: 'POST',
    body: JSON.stringify({ items: [message(foreign)] }),
  })
  const { id } = (await made.json()) as { id: string }
  const items = await mine.fetch(`/v1/conversations/${id}/items`)
  const counted = await ask(mine, [message(foreign)], {}, '/v1/responses/input_tokens')
  const reference = await ask(mine, [{ type: 'item_reference', id: foreign }])

  assert.equal(made.status, 200)
  assert.ok(!(await items.text()).includes(foreign))
  assert.equal(counted.status, 200)
  assert.equal(reference.status, 404)
})
