import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, test } from 'node:test'
import { readConfig } from '../src/config.ts'
import { type Policies, updatePolicies } from '../src/organizations/policies.ts'
import { type DefaultScope, removeDefault, setDefault } from '../src/personas/defaults.ts'
import { createPersona, deletePersona, type NewPersona, updatePersona } from '../src/personas/service.ts'
import { rollBackPersona, setRollout } from '../src/personas/versions.ts'
import { serve } from '../src/serve.ts'
import { deleteUser } from '../src/users/service.ts'
import { startSystem, type TestOrganization, temporaryDirectory } from './harness.ts'
import { askUntil } from './poll.ts'
import { startUpstreamDouble, type UpstreamCall } from './upstream-double.ts'

const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())
let lastId = 0
const upstream = stack.use(
  await startUpstreamDouble(({ body }) => {
    lastId += 1
    const { instructions = null } = body ?? {}
    const response = { id: `resp_${lastId}`, object: 'response', status: 'completed', instructions, usage: null }
    return { pieces: [Buffer.from(JSON.stringify(response))] }
  }),
)
const system = await startSystem({ OPENAI_API_BASE_URL: upstream.url })
const { context } = system.server

test('a persona takes the place of instructions, its fields never reach OpenAI, and all other bytes do as they came', async () => {
  const organization = await system.organization()
  const persona = await newPersona(organization, { content: 'Be kind — é.' })
  const rest = '"model" : "gpt-4o-mini", "input":[{"role":"user","content":"hi"}] , "n":9223372036854775807'

  const inBody = await ask(organization, `{ "persona_id" : "${persona.id.toUpperCase()}" , ${rest} }`)
  const inHeader = await ask(organization, `{ ${rest} }`, { 'x-persona-id': persona.id })
  const inBoth = await ask(organization, `{ "persona_id":"${persona.id}",${rest} }`, { 'x-persona-id': persona.id })

  for (const { status, sent } of [inBody, inHeader, inBoth]) {
    assert.equal(status, 200)
    assert.equal(sent?.raw, `{ ${rest},"instructions":"Be kind — é." }`)
    assert.ok(!Object.keys(sent?.headers ?? {}).some((name) => name.includes('persona')))
  }
  const rows = await rowsOf(organization)
  assert.deepEqual(
    rows.map((row) => [row.persona_id, row.persona_version]),
    Array(3).fill([persona.id, 1]),
  )
})

test('what the documentation says of whose instructions are sent is what is sent', async () => {
  const [P, OWN] = ['The persona.', 'My own.']
  const BOTH = `${P}\n\n${OWN}`
  for (const [personas, named, byDefault, own] of [
    // policy    no own / own, where the persona is named; the same where it is a default; without any persona
    ['replace', [P, P], [P, OWN], [undefined, OWN]],
    ['append', [P, BOTH], [P, BOTH], [undefined, OWN]],
    ['enforce', [P, P], [P, P], [undefined, OWN]],
  ] as const) {
    const organization = await system.organization()
    await setPolicies(organization, { personas })
    const persona = await newPersona(organization, { content: P })
    const bodies = (fields: object) => [fields, { ...fields, instructions: OWN }].map((body) => JSON.stringify(body))
    const sentFor = async (fields: object) => {
      const answers = []
      for (const body of bodies({ model: 'm', input: 'hi', ...fields })) answers.push(await ask(organization, body))
      return answers.map(({ sent }) => sent?.body?.instructions)
    }

    assert.deepEqual(await sentFor({}), own, `${personas}, none`)
    assert.deepEqual(await sentFor({ persona_id: persona.id }), named, `${personas}, named`)
    await setDefault(context, organization.admin, { kind: 'organization' }, persona.id)
    await until(async () => (await sentFor({}))[0] === P)
    assert.deepEqual(await sentFor({}), byDefault, `${personas}, default`)
    assert.deepEqual(await sentFor({ instructions: null, persona_id: null }), byDefault, `${personas}, null is none`)
    assert.deepEqual(await sentFor({ persona_id: persona.id }), named, `${personas}, named beside a default`)
  }
})

test('of several defaults that of the user holds, then that of the key, then that of the organization', async () => {
  const organization = await system.organization()
  const userId = await organization.createUser('alice')
  const scopes: DefaultScope[] = [
    { kind: 'organization' },
    { kind: 'key', id: organization.apiKeyId },
    { kind: 'user', id: userId },
  ]
  const sent = async (userId: string | null, token?: string) =>
    (await ask(organization, '{"model":"m","input":"hi"}', {}, { userId, ...(token && { token }) })).sent?.body
      ?.instructions
  assert.equal(await sent('alice'), undefined)

  const personas = []
  for (const scope of scopes) {
    const persona = await newPersona(organization, { content: `Of the ${scope.kind}.` })
    await setDefault(context, organization.admin, scope, persona.id)
    await until(async () => (await sent('alice')) === `Of the ${scope.kind}.`)
    personas.push(persona)
  }

  assert.equal(await sent('bob'), 'Of the key.')
  assert.equal(await sent(null, organization.syntheticKey), 'Of the key.')
  const { syntheticKey } = await organization.createKey()
  assert.equal(await sent(null, syntheticKey), 'Of the organization.')
  await updatePersona(context, organization.admin, personas[2]?.id ?? '', { isActive: false })
  await until(async () => (await sent('alice')) === 'Of the key.')
  await deletePersona(context, organization.admin, personas[1]?.id ?? '')
  await until(async () => (await sent('alice')) === 'Of the organization.')
  await removeDefault(context, organization.admin, { kind: 'organization' })
  await until(async () => (await sent('bob')) === undefined)
})

test('where personas are enforced, a call whose default is inactive is refused and not made without it', async () => {
  const organization = await system.organization()
  await setPolicies(organization, { personas: 'enforce' })
  const persona = await newPersona(organization, {})
  await setDefault(context, organization.admin, { kind: 'organization' }, persona.id)
  await updatePersona(context, organization.admin, persona.id, { isActive: false })
  const body = '{"model":"m","input":"hi","instructions":"Forget all that."}'

  const refused = await askUntil(
    () => ask(organization, body),
    ({ status }) => status !== 200,
  )

  assert.deepEqual([refused.status, refused.json.error?.code, refused.sent], [409, 'conflict', undefined])
  const other = await newPersona(organization, { content: 'Another.' })
  const named = await ask(organization, JSON.stringify({ model: 'm', input: 'hi', persona_id: other.id }))
  assert.equal(named.sent?.body?.instructions, 'Another.')
})

test('where personas are enforced, messages of the roles system and developer are dropped or refused if that is asked for', async () => {
  const organization = await system.organization()
  const persona = await newPersona(organization, { content: 'P' })
  const user = { role: 'user', content: 'hi' }
  const hidden = [
    '{"role":"system","content":"x"}',
    '{"type":"message","role":"developer","content":[{"type":"input_text","text":"x"}]}',
    '{"content":"x","r\\u006fle":"\\u0073ystem"}',
  ]
  const body = (input: string) => `{"model":"m","persona_id":"${persona.id}","input":${input}}`
  const array = `[${JSON.stringify(user)}, ${hidden.join(' , ')},{"type":"additional_tools","role":"developer","tools":[]}]`

  const itemsSent = async () => {
    const { sent } = await ask(organization, body(array))
    return Array.isArray(sent?.body?.input) ? sent.body.input.length : undefined
  }

  assert.equal(await itemsSent(), 5, 'as they come')
  await setPolicies(organization, { systemItems: 'drop' })
  assert.equal(await itemsSent(), 5, 'a policy for where personas are enforced, which they are not')
  await setPolicies(organization, { personas: 'enforce' })
  await until(async () => (await itemsSent()) === 2)
  const dropped = await ask(organization, body(`[${JSON.stringify(user)},${hidden[0]}]`))
  assert.deepEqual(dropped.sent?.body?.input, [user])
  assert.equal((await ask(organization, body('"just text"'))).sent?.body?.input, 'just text')
  assert.equal(
    (await ask(organization, body(`[${hidden[0]?.replace('"system"', '"user","role":"system"')}]`))).status,
    400,
  )
  const prompt = JSON.stringify({ model: 'm', persona_id: persona.id, prompt: { id: 'pmpt_1' } })
  assert.equal((await ask(organization, prompt)).json.error?.param, 'prompt')

  await setPolicies(organization, { systemItems: 'refuse' })
  await until(async () => (await ask(organization, body(`[${hidden[0]}]`))).status === 400)
  for (const item of hidden) {
    const { status, json, sent } = await ask(organization, body(`[${JSON.stringify(user)},${item}]`))
    assert.deepEqual([status, json.error?.param, sent], [400, 'input', undefined], item)
  }
  assert.equal((await ask(organization, body(JSON.stringify([user])))).status, 200)
})

test('variables are filled in from the call and from defaults; an unknown or missing one is refused by name, and nothing is sent', async () => {
  const organization = await system.organization()
  const { id } = await newPersona(organization, {
    content: 'Help with {{product}}, {{tone}}.',
    variables: { product: null, tone: 'calmly' },
  })
  const call = (persona_variables: unknown, fields: object = { persona_id: id }) =>
    ask(organization, JSON.stringify({ model: 'm', input: 'hi', ...fields, persona_variables }))

  const filled = await call({ product: '{{tone}} "x"\n' })
  assert.deepEqual(Object.keys(filled.sent?.body ?? {}), ['model', 'input', 'instructions'])
  assert.equal(filled.sent?.body?.instructions, 'Help with {{tone}} "x"\n, calmly.')
  assert.equal((await call({ product: 'a', tone: 'b' })).sent?.body?.instructions, 'Help with a, b.')
  for (const [variables, param, fields] of [
    [{}, 'persona_variables.product'],
    [null, 'persona_variables.product'],
    [{ product: 'a', colour: 'red' }, 'persona_variables.colour'],
    [{ product: 5 }, 'persona_variables.product'],
    [{ product: null }, 'persona_variables.product'],
    [['a'], 'persona_variables'],
    ['a', 'persona_variables'],
    [{ product: 'x'.repeat(8001) }, 'persona_variables.product'],
    [{ product: 'x'.repeat(70_000) }, 'persona_variables'],
    [{ product: 'a' }, 'persona_variables', {}],
  ] as [unknown, string, object?][]) {
    const { status, json, sent } = await call(variables, fields)
    assert.deepEqual([status, json.error?.code, json.error?.param], [400, 'invalid_request', param])
    assert.equal(sent, undefined)
  }
  assert.equal((await call({}, {})).status, 200)
})

test('a persona that is unknown, inactive, deleted, another user’s or another organization’s is one and the same 404', async () => {
  const [own, other] = [await system.organization(), await system.organization()]
  const bob = await own.createUser('bob')
  const inactive = await newPersona(own, {})
  await updatePersona(context, own.admin, inactive.id, { isActive: false })
  const deleted = await newPersona(own, {})
  await deletePersona(context, own.admin, deleted.id)
  const ids = [
    randomUUID(),
    inactive.id,
    deleted.id,
    (await newPersona(own, { userId: bob })).id,
    (await newPersona(other, {})).id,
  ]
  const answers: Answer[] = []

  for (const [index, id] of [...ids, ...ids].entries()) {
    const stream = index < ids.length
    answers.push(await ask(own, JSON.stringify({ model: 'm', input: 'hi', persona_id: id, stream })))
    answers.push(await ask(own, '{"model":"m","input":"hi"}', { 'x-persona-id': id }))
  }

  assert.deepEqual([...new Set(answers.map(({ status }) => status))], [404])
  assert.equal(new Set(answers.map(({ text }) => text)).size, 1)
  assert.equal(new Set(answers.map(({ headerNames }) => headerNames)).size, 1)
  assert.ok(answers.every(({ sent }) => sent === undefined))
  assert.deepEqual(await rowsOf(own), [])
  assert.equal((await ask(own, JSON.stringify({ model: 'm', persona_id: ids[3] }), {}, { userId: 'bob' })).status, 200)
})

test('an id that is none, or two that differ, are a 400; null and an empty one are no id', async () => {
  const organization = await system.organization()
  const { id } = await newPersona(organization, {})
  const body = (value: string) => `{"model":"m","input":"hi","persona_id":${value}}`

  for (const value of ['"x"', '5', 'true', '{}', `["${id}"]`, `"${id} "`, `"${id}0"`, `"${'x'.repeat(70_000)}"`]) {
    const { status, json, sent } = await ask(organization, body(value))
    assert.deepEqual([status, json.error?.param, sent], [400, 'persona_id', undefined], value.slice(0, 60))
  }
  for (const header of ['x', `${id}, ${id}`]) {
    const { status, json } = await ask(organization, '{"model":"m"}', { 'x-persona-id': header })
    assert.deepEqual([status, json.error?.param], [400, 'X-Persona-ID'], header)
  }
  const differing = await ask(organization, body(`"${randomUUID()}"`), { 'x-persona-id': id })
  assert.deepEqual([differing.status, differing.json.error?.param], [400, 'persona_id'])
  for (const value of ['null', '""']) {
    const { status, sent } = await ask(organization, body(value))
    assert.deepEqual([status, sent?.raw], [200, '{"model":"m","input":"hi"}'], value)
  }
  const header = await ask(organization, body('null'), { 'x-persona-id': id })
  assert.equal(header.sent?.body?.instructions, 'Help.')
})

test('a rollout gives sessions their shares, each the same every time; a conversation keeps its version; the rows say which', async () => {
  const organization = await system.organization()
  const { id } = await newPersona(organization, { content: 'Version 1.' })
  await updatePersona(context, organization.admin, id, { content: 'Version 2.', isDraft: true })
  await setRollout(context, organization.admin, id, {
    stickyBy: 'session',
    versions: [
      { version: 1, percent: 70 },
      { version: 2, percent: 30 },
    ],
  })
  const versionOf = async (session: string, fields: object = {}) => {
    const body = JSON.stringify({ model: 'm', input: 'hi', persona_id: id, ...fields })
    const { sent, json } = await ask(organization, body, { 'x-session-id': session })
    return { version: Number(/\d/.exec(String(sent?.body?.instructions))?.[0]), responseId: json.id }
  }
  await until(async () => (await askVersions(versionOf, 20)).includes(2))

  const first = await askVersions(versionOf, 300)
  const second = await askVersions(versionOf, 300)

  assert.deepEqual(second, first)
  const share = first.filter((version) => version === 2).length
  // Five standard deviations of the binomial distribution.
  assert.ok(Math.abs(share - 90) <= 5 * Math.sqrt(300 * 0.3 * 0.7), String(share))
  const ofVersion2 = first.indexOf(2)
  const begun = await versionOf(`session-${ofVersion2}`)
  for (const session of ['other', 'another', 'third', 'fourth', 'fifth', 'sixth', 'seventh', 'eighth']) {
    const next = await versionOf(session, { previous_response_id: begun.responseId })
    assert.equal(next.version, 2, session)
  }
  const rows = await rowsOf(organization)
  for (const row of rows) {
    const index = /^session-(\d+)$/.exec(row.session_id)?.[1]
    if (index !== undefined) assert.equal(row.persona_version, first[Number(index)])
  }
  const sums = await system.query<{ persona_version: number; calls: string }>(
    'select persona_version, sum(request_count)::text as calls from usage_daily where persona_id = $1 group by 1 order by 1',
    [id],
  )
  for (const { persona_version, calls } of sums) {
    assert.equal(Number(calls), rows.filter((row) => row.persona_version === persona_version).length)
  }
})

test('a rollout by user gives a user one version whatever the session, and knows the variables of every version', async () => {
  const organization = await system.organization()
  const { id } = await newPersona(organization, { content: 'One {{a}}.', variables: { a: 'x' } })
  await updatePersona(context, organization.admin, id, { content: 'Two {{b}}.', variables: { b: 'x' }, isDraft: true })
  await setRollout(context, organization.admin, id, {
    stickyBy: 'user',
    versions: [
      { version: 1, percent: 50 },
      { version: 2, percent: 50 },
    ],
  })
  const body = JSON.stringify({ model: 'm', persona_id: id, persona_variables: { a: 'A', b: 'B' } })
  await until(async () => (await ask(organization, body)).status === 200)
  const users = Array.from({ length: 12 }, (_, index) => `user-${index}`)
  const sentTo = async (userId: string, session: string) =>
    (await ask(organization, body, { 'x-session-id': session }, { userId })).sent?.body?.instructions

  const seen = new Set<unknown>()
  for (const user of users) {
    const texts = new Set([await sentTo(user, 'a'), await sentTo(user, 'b'), await sentTo(user, 'c')])
    assert.equal(texts.size, 1, user)
    for (const text of texts) seen.add(text)
  }

  assert.deepEqual(seen, new Set(['One A.', 'Two B.']))
})

test('a rollback holds on every server within a second, while requests go on', async () => {
  const dataDirectory = await temporaryDirectory(stack)
  const second = await serve(readConfig({ ...system.env, DATA_DIR: dataDirectory }))
  stack.defer(() => second.stop())
  const urls = [system.url, `http://127.0.0.1:${second.port}`]
  const organization = await system.organization()
  const { id } = await newPersona(organization, { content: 'Version 1.' })
  await updatePersona(context, organization.admin, id, { content: 'Version 2.' })
  const answers: { sentAt: number; text: unknown }[] = []
  const ending = new AbortController()
  const flow = urls.map(async (url) => {
    while (!ending.signal.aborted) {
      const sentAt = performance.now()
      const body = JSON.stringify({ model: 'm', persona_id: id })
      const { status, sent } = await ask(organization, body, {}, { url })
      assert.equal(status, 200)
      answers.push({ sentAt, text: sent?.body?.instructions })
    }
  })
  await until(async () => answers.filter(({ text }) => text === 'Version 2.').length > 20)

  await rollBackPersona(context, organization.admin, id, 1)
  const rolledBackAt = performance.now()
  await until(async () => performance.now() > rolledBackAt + 2000)
  ending.abort()
  await Promise.all(flow)

  const late = answers.filter(({ sentAt }) => sentAt > rolledBackAt + 1000)
  assert.ok(late.length > 5)
  assert.deepEqual([...new Set(late.map(({ text }) => text))], ['Version 1.'])
})

test('a deleted user’s personas are deactivated and nobody’s default, and never fall to anybody else', async () => {
  const organization = await system.organization()
  const userId = await organization.createUser('leaving')
  const { id } = await newPersona(organization, { userId })
  await setDefault(context, organization.admin, { kind: 'user', id: userId }, id)

  await deleteUser(context, organization.admin, userId)

  const rows = await system.query('select user_id, is_active from personas where id = $1', [id])
  assert.deepEqual(rows, [{ user_id: userId, is_active: false }])
  assert.deepEqual(await system.query('select * from persona_defaults where persona_id = $1', [id]), [])
  for (const user of ['alice', 'leaving']) {
    const { status } = await ask(organization, JSON.stringify({ model: 'm', persona_id: id }), {}, { userId: user })
    assert.equal(status, 404, user)
  }
  await assert.rejects(updatePersona(context, organization.admin, id, { isActive: true }), { code: 'not_found' })
})

let nameCount = 0

function newPersona(organization: TestOrganization, input: Partial<NewPersona>) {
  nameCount += 1
  return createPersona(context, organization.admin, { name: `Persona ${nameCount}`, content: 'Help.', ...input })
}

async function setPolicies(organization: TestOrganization, policies: Partial<Policies>): Promise<void> {
  await updatePolicies(context, organization.admin, policies)
}

interface Answer {
  status: number
  text: string
  json: { id?: string; error?: { code: string; param: string | null } }
  headerNames: string
  /** What OpenAI got; undefined when it was not asked. */
  sent: UpstreamCall | undefined
}

/** One question, marked so that what was sent for it can be told from what was sent for others. */
async function ask(
  organization: TestOrganization,
  body: string,
  headers: Record<string, string> = {},
  { url = system.url, userId = 'alice' as string | null, token = organization.token } = {},
): Promise<Answer> {
  const mark = randomUUID()
  const response = await fetch(`${url}/v1/responses`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${token}`,
      'content-type': 'application/json',
      'x-client-request-id': mark,
      ...(userId !== null && { 'x-user-id': userId }),
      ...headers,
    },
    body,
  })
  const text = await response.text()
  return {
    status: response.status,
    text,
    json: JSON.parse(text),
    headerNames: [...response.headers.keys()].sort().join(),
    sent: upstream.calls.find((call) => call.headers['x-client-request-id'] === mark),
  }
}

async function askVersions(versionOf: (session: string) => Promise<{ version: number }>, count: number) {
  const versions: number[] = []
  for (let index = 0; index < count; index += 1) versions.push((await versionOf(`session-${index}`)).version)
  return versions
}

function rowsOf(organization: TestOrganization) {
  return system.query<{ persona_id: string; persona_version: number; session_id: string }>(
    'select persona_id, persona_version, session_id from attempts where organization_id = $1 order by opened_at',
    [organization.id],
  )
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  assert.ok(await askUntil(holds, (answer) => answer), 'it does not hold')
}
