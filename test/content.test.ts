import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import { type Policies, updatePolicies } from '../src/organizations/policies.ts'
import { startSystem, type TestOrganization } from './harness.ts'
import { until } from './raw-client.ts'

const system = await startSystem()
const { contents, policies } = system.server.context
const MEBIBYTE = 1024 * 1024

for (const stream of [false, true]) {
  test(`by default request and answer are kept, byte for byte (${stream ? 'streamed' : 'whole'})`, async () => {
    const organization = await system.organization()
    const body = ` {"model": "sim:tokens=300,model=gpt-4o-mini",\r\n"stream":${stream} , "input":"h\\u00e9 \u2028 zoë 🎈"}\n`

    const sent = await send(organization, body)

    const content = await contentOf(organization, sent.requestId)
    assert.deepEqual(content, {
      request_id: sent.requestId,
      request: { text: body, is_cut: false, original_bytes: Buffer.byteLength(body) },
      response: { text: sent.text, is_cut: false, original_bytes: Buffer.byteLength(sent.text) },
    })
    assert.equal(sent.status, 200)
    assert.equal(/event: response.completed/.test(sent.text), stream)
  })
}

test('C94: kept, content is readable nowhere in the database and not at all in the journal; not kept, it is nowhere', async () => {
  for (const content of ['full', 'none'] as const) {
    const organization = await system.organization()
    await setPolicies(organization, { content })
    const sentinel = `sentinel${randomBytes(8).toString('hex')}`
    for (const stream of [false, true]) {
      const sent = await send(organization, JSON.stringify({ model: 'gpt-4o-mini', input: sentinel, stream }))
      assert.ok(sent.text.includes(sentinel), 'the answer repeats it')
    }
    await contents.flush()

    const rows = await system.query('select kind from contents where organization_id = $1', [organization.id])
    assert.equal(rows.length, content === 'full' ? 4 : 0)
    const journal = await readAll(join(String(system.env.DATA_DIR), 'journal'))
    assert.ok(journal.length > 0)
    const places = { database: await dumpDatabase(), journal }
    for (const [place, bytes] of Object.entries(places)) {
      for (const form of [sentinel, Buffer.from(sentinel).toString('hex')]) {
        assert.equal(bytes.includes(form), false, `${form} in the ${place}, with content ${content}`)
      }
    }
  }
})

test('with the policy "none" nothing is kept of what comes next; what was kept before stays until its deadline', async () => {
  const organization = await system.organization()
  const before = await send(organization)
  await contents.flush()

  await setPolicies(organization, { content: 'none' })
  const since = await send(organization)
  await contents.flush()

  assert.deepEqual(await contentOf(organization, since.requestId), {
    request_id: since.requestId,
    request: null,
    response: null,
  })
  assert.equal((await contentOf(organization, before.requestId)).response?.text, before.text)
})

test('the deadline is as many days away as the organization says, and past it there is nothing to read, purged or not', async () => {
  const organization = await system.organization()
  await setPolicies(organization, { contentDays: 7 })
  const { requestId } = await send(organization)
  await contents.flush()

  const [row] = await system.query(
    'select extract(epoch from max(expires_at) - max(created_at)) / 86400 as days from contents where organization_id = $1',
    [organization.id],
  )
  await system.query('update contents set expires_at = now() where organization_id = $1', [organization.id])

  assert.equal(Number(row?.days), 7)
  assert.deepEqual(await contentOf(organization, requestId), { request_id: requestId, request: null, response: null })
})

test('days that are none are refused', async () => {
  const organization = await system.organization()
  for (const contentDays of [0, -1, 1.5, 3651, Number.NaN]) {
    await assert.rejects(updatePolicies(system.server.context, organization.admin, { contentDays }), {
      code: 'invalid_request',
    })
  }
})

test('bodies over 1 MiB are cut at a character, and marked', async () => {
  const organization = await system.organization()
  const body = JSON.stringify({ model: 'sim:huge=1500000,tokens=3,model=gpt-4o-mini', input: '€'.repeat(500_000) })

  for (const stream of [false, true]) {
    const sent = await send(organization, body.replace('{', `{"stream":${stream},`))

    const { request, response } = await contentOf(organization, sent.requestId)
    assert.deepEqual([request?.is_cut, response?.is_cut], [true, true])
    assert.equal(response?.original_bytes, Buffer.byteLength(sent.text))
    assert.ok(sent.text.startsWith(response.text))
    assert.ok(body.replace('{', `{"stream":${stream},`).startsWith(request?.text ?? 'x'))
    for (const kept of [request, response]) {
      const bytes = Buffer.byteLength(kept?.text ?? '')
      assert.ok(bytes <= MEBIBYTE && bytes > MEBIBYTE - 4, `${bytes} bytes`)
    }
  }
})

test('when the client goes, what passed until then is kept', async () => {
  const organization = await system.organization()
  const model = 'sim:tokens=4000,tps=200,model=gpt-4o-mini'
  const { data: stream, request_id } = await organization
    .client()
    .responses.create({ model, input: 'hi', stream: true })
    .withResponse()

  for await (const event of stream) {
    if (event.type === 'response.output_text.delta') break
  }
  await system.simulator.ledger.idle()

  const { response } = await contentOf(organization, String(request_id))
  assert.match(response?.text ?? '', /^event: response.created\n/)
  assert.doesNotMatch(response?.text ?? '', /response.completed/)
})

test("what OpenAI says to the proxy and not to the client is not kept, and OpenAI's errors to the client are", async () => {
  const organization = await system.organization()
  const refused = await send(organization, '{"model":"sim:status=401","input":"hi"}')
  const failed = await send(organization, '{"model":"sim:status=429","input":"hi"}')

  assert.deepEqual([refused.status, failed.status], [502, 429])
  const [ofRefused, ofFailed] = [
    await contentOf(organization, refused.requestId),
    await contentOf(organization, failed.requestId),
  ]
  assert.equal(ofRefused.response, null)
  assert.equal(ofRefused.request?.text, '{"model":"sim:status=401","input":"hi"}')
  assert.equal(ofFailed.response?.text, failed.text)
})

test('a row moved to another organization or another request is not opened', async () => {
  const [own, other] = [await system.organization(), await system.organization()]
  const [mine, mineToo, theirs] = [await send(own), await send(own), await send(other)]
  await contents.flush()

  for (const [organization, to] of [
    [own, mineToo],
    [other, theirs],
  ] as const) {
    await system.query(
      `update contents set sealed = source.sealed from contents as source
      where contents.kind = source.kind
        and source.attempt_id = (select attempt_id from attempts where request_id = $1)
        and contents.attempt_id = (select attempt_id from attempts where request_id = $2)`,
      [mine.requestId, to.requestId],
    )
    const answer = await organization.fetch(`/v1/requests/${to.requestId}/content`)
    assert.equal(answer.status, 500)
    assert.ok(!(await answer.text()).includes('model'))
  }
  assert.equal((await contentOf(own, mine.requestId)).response?.text, mine.text)
})

test('when there is no room content is dropped and counted, requests are served, and their rows are there', async () => {
  const organization = await system.organization()
  const droppedBefore = contents.droppedCount
  const body = JSON.stringify({ model: 'sim:huge=1048576,tokens=3,model=gpt-4o-mini', input: 'x'.repeat(MEBIBYTE) })
  await send(organization)
  await contents.flush()
  const client = await lockContents()

  const statuses: number[] = []
  for (let count = 0; count < 40; count += 1) statuses.push((await send(organization, body)).status)

  assert.deepEqual(new Set(statuses), new Set([200]))
  assert.ok(contents.pendingBytes <= 64 * MEBIBYTE)
  const dropped = contents.droppedCount - droppedBefore
  assert.ok(dropped >= 8 && dropped < 40, `${dropped} dropped`)
  await client.unlock()
  await contents.flush()
  const [count] = await system.query(
    `select
      (select count(*)::int from attempts where organization_id = $1 and status = 'completed') as attempts,
      (select count(*)::int from contents where organization_id = $1 and kind = 'response') as contents`,
    [organization.id],
  )
  assert.deepEqual(count, { attempts: 41, contents: 41 - dropped })
})

test("another organization's request is one that never was, and reading needs the scope org:admin", async () => {
  const [own, other] = [await system.organization(), await system.organization()]
  const { requestId } = await send(other)
  const answers = await Promise.all(
    [requestId, `req_${'0'.repeat(32)}`, 'x', '%00'].map((id) => own.fetch(`/v1/requests/${id}/content`)),
  )
  const bodies = await Promise.all(answers.map((answer) => answer.text()))
  const token = await other.createToken({ scopes: ['inference'] })
  const unscoped = await other.fetch(`/v1/requests/${requestId}/content`, { token })

  assert.deepEqual(
    answers.map(({ status }) => status),
    [404, 404, 404, 404],
  )
  assert.equal(new Set(bodies).size, 1)
  assert.equal(unscoped.status, 403)
})

interface Sent {
  status: number
  text: string
  requestId: string
}

async function send(organization: TestOrganization, body = '{"model":"gpt-4o-mini","input":"hi"}'): Promise<Sent> {
  const response = await organization.fetch('/v1/responses', { method: 'POST', body })
  return {
    status: response.status,
    text: await response.text(),
    requestId: String(response.headers.get('x-request-id')),
  }
}

interface WireBody {
  text: string
  is_cut: boolean
  original_bytes: number
}

async function contentOf(organization: TestOrganization, requestId: string) {
  const response = await organization.fetch(`/v1/requests/${requestId}/content`)
  assert.equal(response.status, 200)
  return (await response.json()) as { request_id: string; request: WireBody | null; response: WireBody | null }
}

async function setPolicies(organization: TestOrganization, changes: Partial<Policies>): Promise<void> {
  const wanted = await updatePolicies(system.server.context, organization.admin, changes)
  await until('the policies hold', async () => isDeepStrictEqual(await policies(organization.id), wanted))
}

/** Every row of every table, as text. */
async function dumpDatabase(): Promise<string> {
  const tables = await system.query<{ name: string }>(
    "select quote_ident(table_name) as name from information_schema.tables where table_schema = 'public'",
  )
  const texts: string[] = []
  for (const { name } of tables) {
    const rows = await system.query<{ text: string }>(`select t::text as text from ${name} as t`)
    texts.push(...rows.map(({ text }) => text))
  }
  return texts.join('\n')
}

async function readAll(directory: string): Promise<Buffer> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile())
  return Buffer.concat(await Promise.all(files.map((file) => readFile(join(file.parentPath, file.name)))))
}

/** Makes the database unable to take content for a while. */
async function lockContents() {
  await system.query('begin')
  await system.query('lock table contents')
  return {
    async unlock() {
      await system.query('rollback')
    },
  }
}
