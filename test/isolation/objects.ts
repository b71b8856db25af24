import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { OPERATOR } from '../../src/auth/caller.ts'
import { adoptObject } from '../../src/ownership/adopt.ts'
import type { ObjectKind } from '../../src/ownership/kinds.ts'
import type { System } from '../harness.ts'
import { askUntil } from '../poll.ts'
import { type Asked, ask, type Party } from './party.ts'

/** One object of each kind that a later call can name; those that are part of another are part of the one here. */
export type Objects = Record<NamedKind, string>

export type NamedKind = Exclude<ObjectKind, 'realtime_session'>

type Elsewhere = 'prompt' | 'skill' | 'connector' | 'tunnel' | 'voice' | 'model'

/** One of each kind that is made elsewhere: a user's own once an operator has adopted it for them. */
export async function adoptObjects({ server }: System, party: Party): Promise<Record<Elsewhere, string>> {
  const { organization, user } = party
  const digits = () => randomBytes(20).toString('hex')
  const objects = {
    prompt: `pmpt_${digits()}`,
    skill: `skill_${digits()}`,
    connector: `connector_${digits()}`,
    tunnel: `tunnel_${digits()}`,
    voice: `voice_${digits()}`,
    model: `ft:gpt-4o-mini:acme::${digits()}`,
  }
  // What is adopted for no user is everybody's in the organization, and so nobody's own.
  if (user === null) return objects
  const { apiKeyId, id: organizationId } = organization
  const userId = await organization.createUser(user)
  for (const [kind, objectId] of Object.entries(objects) as [Elsewhere, string][]) {
    await adoptObject(server.context, OPERATOR, organizationId, { objectId, kind, userId, apiKeyId })
  }
  return objects
}

/** Makes one of each of the others, with the party's canary in every field that takes a text. */
export async function makeObjects(url: string, party: Party): Promise<Omit<Objects, Elsewhere>> {
  const { canary } = party
  const metadata = { [canary]: canary }
  const make = async (path: string, body: Asked['body']): Promise<Record<string, unknown>> => {
    const { status, text } = await ask(url, party, { method: 'POST', path, ...(body && { body }) })
    assert.equal(status, 200, `${party.name}: POST ${path}: ${text}`)
    return JSON.parse(text)
  }
  const idOf = async (path: string, body: Asked['body']) => String((await make(path, body)).id)

  const line = JSON.stringify({
    custom_id: 'a',
    method: 'POST',
    url: '/v1/responses',
    body: { model: 'gpt-4o-mini', input: canary },
  })
  const file = await idOf('/files', form({ purpose: 'batch' }, 'file', line))
  const message = { type: 'message', role: 'user', content: canary }
  const conversation = await idOf('/conversations', { metadata, items: [message] })
  const items = (await make(`/conversations/${conversation}/items`, { items: [message] })) as { data: { id: string }[] }
  const response = await idOf('/responses', {
    model: 'gpt-4o-mini',
    input: canary,
    instructions: canary,
    metadata,
    background: true,
  })
  const chat = (await make('/chat/completions', {
    model: 'gpt-4o-audio-preview',
    messages: [{ role: 'user', content: canary }],
    modalities: ['text', 'audio'],
    store: true,
    metadata,
  })) as { id: string; choices: { message: { audio: { id: string } } }[] }
  const upload = await idOf('/uploads', { bytes: 1, filename: canary, mime_type: 'text/plain', purpose: 'user_data' })
  const vector_store = await idOf('/vector_stores', { name: canary, metadata, file_ids: [file] })
  const container = await idOf('/containers', { name: canary, file_ids: [file] })
  const objects = {
    response,
    conversation,
    item: items.data[0]?.id ?? '',
    chat_completion: chat.id,
    audio: chat.choices[0]?.message.audio.id ?? '',
    file,
    upload,
    upload_part: await idOf(`/uploads/${upload}/parts`, form({}, 'data', 'x')),
    vector_store,
    file_batch: await idOf(`/vector_stores/${vector_store}/file_batches`, { file_ids: [file] }),
    batch: await idOf('/batches', {
      input_file_id: file,
      endpoint: '/v1/responses',
      completion_window: '24h',
      metadata,
    }),
    container,
    container_file: await idOf(`/containers/${container}/files`, form({}, 'file', canary)),
  }
  await ended(url, party, `/responses/${response}`)
  await ended(url, party, `/batches/${objects.batch}`)
  return objects
}

export function form(fields: Record<string, string>, fileField: string, content: string): FormData {
  const data = new FormData()
  for (const [name, value] of Object.entries(fields)) data.append(name, value)
  data.append(fileField, new File([content], 'note.txt'))
  return data
}

async function ended(url: string, party: Party, path: string): Promise<void> {
  const { text } = await askUntil(
    () => ask(url, party, { method: 'GET', path }),
    (answer) => /"status":\s*"(completed|failed)"/.test(answer.text),
  )
  assert.match(text, /"status":\s*"completed"/)
}
