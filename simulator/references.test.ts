import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import OpenAI, { toFile } from 'openai'
import type { Response, ResponseInputItem, Tool } from 'openai/resources/responses/responses'
import { startSimulator } from './server.ts'

const simulator = await startSimulator()
const client = new OpenAI({ baseURL: simulator.url, apiKey: 'sk-test', maxRetries: 0 })
after(() => simulator[Symbol.asyncDispose]())

const file = await client.files.create({
  file: await toFile(Buffer.from('CANARY-file'), 'f.txt'),
  purpose: 'user_data',
})
const store = await client.vectorStores.create({ name: 'CANARY-store', file_ids: [file.id] })
const container = await client.containers.create({ name: 'CANARY-container', file_ids: [file.id] })

function ask(input: ResponseInputItem[], tools: Tool[] = []): Promise<Response> {
  return client.responses.create({ model: 'gpt-5', input, tools })
}

const inFile: ResponseInputItem = { role: 'user', content: [{ type: 'input_file', file_id: file.id }] }

test('what a request refers to, wherever, is told in the answer', async () => {
  const before = await ask([{ role: 'user', content: 'CANARY-before' }])
  const item_reference: ResponseInputItem = { type: 'item_reference', id: before.output[0]?.id ?? '' }
  const inOutput: ResponseInputItem = {
    type: 'function_call_output',
    call_id: 'call_1',
    output: [{ type: 'input_file', file_id: file.id }],
  }
  const search: Tool = { type: 'file_search', vector_store_ids: [store.id] }
  const laterTools = { type: 'additional_tools', role: 'developer', tools: [search] } as unknown as ResponseInputItem

  assert.match((await ask([inFile])).output_text, /CANARY-file/)
  assert.match((await ask([inOutput])).output_text, /CANARY-file/)
  assert.match((await ask([item_reference])).output_text, /CANARY-before/)
  assert.match((await ask([], [search])).output_text, /CANARY-store.*CANARY-file/)
  assert.match((await ask([laterTools])).output_text, /CANARY-store/)
  const interpreter: Tool = { type: 'code_interpreter', container: container.id }
  assert.match((await ask([], [interpreter])).output_text, /CANARY-container CANARY-file/)
})

test('what is not there is a 404', async () => {
  const missing: ResponseInputItem[] = [
    { role: 'user', content: [{ type: 'input_image', file_id: 'file-none', detail: 'auto' }] },
    { type: 'item_reference', id: 'msg_none' },
  ]
  for (const item of missing) await assert.rejects(ask([item]), { status: 404 })
  const tools: Tool[] = [
    { type: 'file_search', vector_store_ids: ['vs_none'] },
    { type: 'code_interpreter', container: 'cntr_none' },
    { type: 'code_interpreter', container: { type: 'auto', file_ids: ['file-none'] } },
  ]
  for (const tool of tools) await assert.rejects(ask([], [tool]), { status: 404 })
  await assert.rejects(client.responses.create({ model: 'gpt-5', input: 'x', conversation: 'conv_none' }), {
    status: 404,
  })
})

test('hosted tools hand out ids: containers and their files, items, citations', async () => {
  const response = await client.responses.create({
    model: 'gpt-5',
    input: 'draw',
    include: ['file_search_call.results'],
    tools: [
      { type: 'code_interpreter', container: { type: 'auto', file_ids: [file.id] } },
      { type: 'file_search', vector_store_ids: [store.id] },
      { type: 'image_generation' },
      { type: 'mcp', server_label: 'm', server_url: 'http://localhost' },
    ],
  })
  const types = response.output.map(({ type }) => type)
  const [code, search] = response.output
  const last = response.output.at(-1)

  assert.deepEqual(types, [
    'code_interpreter_call',
    'file_search_call',
    'image_generation_call',
    'mcp_approval_request',
    'message',
  ])
  assert.ok(code?.type === 'code_interpreter_call' && search?.type === 'file_search_call' && last?.type === 'message')
  assert.equal((await client.containers.files.list(code.container_id)).data.length, 2)
  assert.equal(search.results?.[0]?.text, 'CANARY-file')
  const part = last.content[0]
  const citations = part?.type === 'output_text' ? part.annotations : []
  assert.deepEqual(
    citations.map(({ type }) => type),
    ['container_file_citation', 'file_citation'],
  )
  const stream = client.responses.stream({ model: 'gpt-5', input: 'x', tools: [{ type: 'image_generation' }] })
  assert.deepEqual(
    (await stream.finalResponse()).output.map(({ type }) => type),
    ['image_generation_call', 'message'],
  )
})

test('an input that ends with a compaction trigger is answered by one item that stands for it', async () => {
  const input = [{ role: 'user', content: 'long ago' }, { type: 'compaction_trigger' }] as ResponseInputItem[]
  const whole = await client.responses.create({ model: 'gpt-5', input })
  const events = await Array.fromAsync(await client.responses.create({ model: 'gpt-5', input, stream: true }))

  assert.deepEqual(
    whole.output.map(({ type }) => type),
    ['compaction'],
  )
  assert.equal(whole.usage?.output_tokens, 10)
  assert.deepEqual(
    events.map(({ type }) => type).filter((type) => !type.endsWith('in_progress')),
    ['response.created', 'response.output_item.added', 'response.output_item.done', 'response.completed'],
  )
  await simulator.ledger.idle()
  assert.equal(simulator.ledger.entries().at(-1)?.usage?.output_tokens, 10)
})
