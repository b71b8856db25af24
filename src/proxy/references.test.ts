import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BodyReferences } from './references.ts'

const ID = 'id_foreign'

/** Where a body can name an object of somebody else's; `ID` stands for its id. */
const PLACES: Record<string, unknown> = {
  previous_response_id: { previous_response_id: ID },
  conversation: { conversation: ID },
  'conversation.id': { conversation: { id: ID } },
  'the response a cache is compared with': { prompt_cache_options: { comparison_response_id: ID } },
  prompt: { prompt: { id: ID, variables: { a: 'text' } } },
  "a file in a prompt's variables": {
    prompt: { id: 'x', variables: { metadata: { type: 'input_file', file_id: ID } } },
  },
  'a variable called like what is left alone': { prompt: { variables: { schema: { parameters: { file_id: ID } } } } },
  'a file in a message': { input: [{ role: 'user', content: [{ type: 'input_file', file_id: ID }] }] },
  'an image in a message': { input: [{ role: 'user', content: [{ type: 'input_image', file_id: ID }] }] },
  'a file in what a function returned': {
    input: [{ type: 'function_call_output', call_id: 'c', output: [{ type: 'input_file', file_id: ID }] }],
  },
  'a file in what a custom tool returned': {
    input: [{ type: 'custom_tool_call_output', output: [{ type: 'input_image', file_id: ID }] }],
  },
  'a screenshot': { input: [{ type: 'computer_call_output', output: { type: 'computer_screenshot', file_id: ID } }] },
  'an item by reference': { input: [{ type: 'item_reference', id: ID }] },
  'an item by nothing but its id': { input: [{ id: ID }] },
  'an image that was made': { input: [{ type: 'image_generation_call', id: ID }] },
  'an item that comes whole': { input: [{ type: 'message', id: ID, role: 'assistant', content: [] }] },
  'a request for approval': { input: [{ type: 'mcp_approval_response', approve: true, approval_request_id: ID }] },
  'an annotation': {
    input: [{ content: [{ type: 'output_text', annotations: [{ type: 'container_file_citation', file_id: ID }] }] }],
  },
  "an annotation's container": { input: [{ content: [{ annotations: [{ container_id: ID }] }] }] },
  'a vector store of a tool': { tools: [{ type: 'file_search', vector_store_ids: ['own', ID] }] },
  'a container': { tools: [{ type: 'code_interpreter', container: ID }] },
  'files for a container': { tools: [{ type: 'code_interpreter', container: { type: 'auto', file_ids: [ID] } }] },
  'skills for a container': { tools: [{ type: 'shell', environment: { skills: [{ skill_id: ID }] } }] },
  "a shell's container": { tools: [{ type: 'shell', environment: { type: 'container_reference', container_id: ID } }] },
  'a mask': { tools: [{ type: 'image_generation', input_image_mask: { file_id: ID } }] },
  'a connector': { tools: [{ type: 'mcp', connector_id: ID }] },
  'a tunnel': { tools: [{ type: 'mcp', tunnel_id: ID }] },
  'tools within a namespace': {
    tools: [{ type: 'namespace', tools: [{ type: 'file_search', vector_store_ids: [ID] }] }],
  },
  'additional tools': {
    input: [{ type: 'additional_tools', tools: [{ type: 'file_search', vector_store_ids: [ID] }] }],
  },
  'tools that were found': { input: [{ type: 'tool_search_output', tools: [{ type: 'mcp', connector_id: ID }] }] },
  'items of a new conversation': { items: [{ role: 'user', content: [{ type: 'input_file', file_id: ID }] }] },
  'a file in a chat': { messages: [{ role: 'user', content: [{ type: 'file', file: { file_id: ID } }] }] },
  'what was said aloud in a chat': { messages: [{ role: 'assistant', audio: { id: ID } }] },
  'the input of a batch': { input_file_id: ID },
  'files of a vector store': { file_ids: [ID] },
  'files with attributes': { files: [{ file_id: ID, attributes: {} }] },
  'parts of an upload': { part_ids: [ID] },
  'an image to be edited': { images: [{ file_id: ID }] },
  'a mask to edit with': { mask: { file_id: ID } },
  'a voice of somebody': { voice: { id: ID } },
  "a session's prompt": { session: { prompt: { id: ID } } },
  "a session's tool": { session: { tools: [{ type: 'mcp', connector_id: ID }] } },
  'a file to train with': { training_file_id: ID },
  'a field that nobody has heard of': { of_tomorrow: { deep: [[{ reference_file_id: ID }]] } },
  'ids in lists of lists': { of_tomorrow: { file_ids: [[ID]] } },
  'a field of an unknown object beside a known one': { tools: [{ type: 'new', more: { vector_store_id: ID } }] },
}

/** What users name themselves. */
const LEFT_ALONE: Record<string, unknown> = {
  metadata: { metadata: { file_id: ID, previous_response_id: ID } },
  "a client's own metadata": { client_metadata: { conversation_id: ID } },
  "a tool's parameters": {
    tools: [{ type: 'function', parameters: { properties: { file_id: { default: ID }, id: ID } } }],
  },
  "a chat tool's parameters": { tools: [{ function: { parameters: { file_ids: [ID] } } }] },
  'a schema': { text: { format: { type: 'json_schema', schema: { file_id: ID } } } },
  "a chat's schema": { response_format: { json_schema: { schema: { container: ID } } } },
  'attributes of a file': { attributes: { file_id: ID } },
  'what is said': { input: [{ role: 'user', content: `"file_id":"${ID}"` }] },
  'arguments of a function': { input: [{ type: 'function_call', arguments: `{"file_id":"${ID}"}` }] },
  "a prompt's variable that is text": { prompt: { variables: { file_id: ID } } },
  'the text of a prompt': { prompt: ID },
  'a voice of everybody': { voice: 'alloy' },
  'ids of messages in a chat': { messages: [{ id: ID, role: 'user', content: 'hi' }] },
}

function idsIn(body: string | Buffer, size = Number.POSITIVE_INFINITY): string[] {
  const bytes = Buffer.from(body)
  const found = new BodyReferences()
  for (let at = 0; at < bytes.length; at += Math.min(size, bytes.length)) found.push(bytes.subarray(at, at + size))
  return found.references.map(({ id }) => id)
}

test('an id is found in every place where a body can name one, however the body is cut', async (t) => {
  for (const [place, body] of Object.entries(PLACES)) {
    await t.test(place, () => {
      for (const size of [1, 3, 64, Number.POSITIVE_INFINITY]) {
        assert.ok(idsIn(JSON.stringify(body), size).includes(ID), `in pieces of ${size}`)
        assert.ok(idsIn(JSON.stringify(body, undefined, 2), size).includes(ID), `with blanks, in pieces of ${size}`)
      }
    })
  }
})

test('what users name themselves is left alone', async (t) => {
  for (const [place, body] of Object.entries(LEFT_ALONE)) {
    await t.test(place, () => assert.deepEqual(idsIn(JSON.stringify(body)), []))
  }
})

test('an id is found behind a repeated name and in any spelling', () => {
  for (const body of [
    `{"tools":[{"vector_store_ids":["${ID}"],"vector_store_ids":["own"]}]}`,
    `{"tools":[{"vector_store_ids":["own"],"vector_store_ids":["${ID}"]}]}`,
    `{"input":[{"content":[{"file_id":"${ID}"}],"content":"hi"}]}`,
    `{"input":[{"id":"${ID}","id":"own","type":"item_reference"}]}`,
    `{"x":{"file_id":"own","\\u0066ile_\\u0069d":"${ID}"}}`,
    `{"x":{"file_id":"\\u0069d_foreign"}}`,
    `{"x":{"f\\u0069le_ids":[["${ID}"]]}}`,
    `{"x":{"a":"\\\\","file_id":"${ID}"}}`,
    `{"x":{"a":"\\"file_id\\":{","file_id":"${ID}"}}`,
    `{"x":{"file_id" \n\t:\r "${ID}"}}`,
    `{"metadata":{"x":{}},"x":{"file_id":"${ID}"}}`,
    `{"x":[{},[],{"a":[]},{"file_id":"${ID}"}]}`,
  ]) {
    JSON.parse(body)
    for (const size of [1, 2, 5, 1000]) assert.ok(idsIn(body, size).includes(ID), body)
  }
})

test('an id that is no id is told as one that nobody has', () => {
  for (const id of ['', ' ', 'x'.repeat(5000), '\\ud800', 'a/b', '\\u0000']) {
    assert.equal(idsIn(`{"file_id":"${id}"}`).length, 1)
  }
})

test('planted ids are found in ten thousand random bodies', () => {
  const random = randomFrom(20261124)
  const fields = [
    'file_id',
    'file_ids',
    'vector_store_ids',
    'container_id',
    'previous_response_id',
    'skill_id',
    'a_file_id',
  ]
  let plantedCount = 0
  for (let round = 0; round < 10_000; round += 1) {
    const planted: string[] = []
    const body = `{${objectFields(0)}}`
    const size = 1 + random(40)
    const found = new Set(idsIn(body, size))
    for (const id of planted) assert.ok(found.has(id), `${id} in ${body}`)
    plantedCount += planted.length

    function value(depth: number): string {
      if (depth > 6) return '1'
      switch (random(8)) {
        case 0:
          return `{${objectFields(depth + 1)}}`
        case 1:
          return `[${Array.from({ length: random(4) }, () => value(depth + 1)).join(',')}]`
        case 2:
          return '"text with \\" and \\\\ and {[,:]}"'
        case 3:
          return '-1.5e+3'
        case 4:
          return 'null'
        case 5:
          return '"\\\\"'
        default:
          return `"${'x'.repeat(random(20))}"`
      }
    }

    function objectFields(depth: number): string {
      return Array.from({ length: random(5) }, () => {
        if (random(3) > 0)
          return `${spelled(['a', 'b', 'type', 'tools', 'input', 'output', 'content'][random(7)] ?? '')}:${value(depth)}`
        const id = `id_${planted.length}_${round}`
        planted.push(id)
        const text = random(2) ? `"${id}"` : `["own",${random(2) ? '' : '[],'}"${id}"]`
        return `${spelled(fields[random(fields.length)] ?? '')}${' '.repeat(random(2))}:${text}`
      }).join(',')
    }

    function spelled(name: string): string {
      if (random(4) > 0) return `"${name}"`
      const at = random(name.length)
      return `"${name.slice(0, at)}\\u${name.charCodeAt(at).toString(16).padStart(4, '0')}${name.slice(at + 1)}"`
    }
  }
  assert.ok(plantedCount > 5000, `only ${plantedCount}`)
})

test('models of tools and sessions are told', () => {
  const found = new BodyReferences()
  found.push(
    Buffer.from(
      JSON.stringify({
        model: 'a',
        tools: [{ type: 'image_generation', model: 'b' }],
        input: [{ tools: [{ model: 'c' }] }],
      }),
    ),
  )
  assert.deepEqual(found.models, ['b', 'c'])
  const session = new BodyReferences()
  session.push(
    Buffer.from(JSON.stringify({ session: { model: 'd', audio: { input: { transcription: { model: 'e' } } } } })),
  )
  assert.deepEqual([session.sessionModel, session.models], ['d', ['d', 'e']])
})

/** Small random numbers, the same in every run. */
function randomFrom(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}
