import type { Answer } from './client.ts'
import { CheckFailed, CheckSkipped, type Walk } from './walk.ts'

/** In this order: each relies on those before it. */
export const CHECKS: readonly { name: string; run(walk: Walk): Promise<string> }[] = [
  { name: 'server', run: checkServer },
  { name: 'authentication', run: checkAuthentication },
  { name: 'openai-key', run: checkOpenAiKey },
  { name: 'response', run: checkResponse },
  { name: 'streaming', run: checkStreaming },
  { name: 'rating', run: checkRating },
  { name: 'errors', run: checkErrors },
  { name: 'users', run: checkUsers },
  { name: 'api-keys', run: checkApiKeys },
]

async function checkServer({ call }: Walk): Promise<string> {
  const live = await call('GET', '/livez', { credential: null })
  if (live.status !== 200) throw unexpected(live, 200, 'Is this the address of the proxy itself?', { isFatal: true })
  const ready = await call('GET', '/readyz', { credential: null })
  if (ready.status !== 200)
    throw unexpected(ready, 200, 'It runs, but has no database or is stopping.', { isFatal: true })
  return 'it answers and is ready.'
}

async function checkAuthentication(walk: Walk): Promise<string> {
  const { call } = walk
  const wrongly = [null, 'bad', 'sk-proxy-0123456789abcdef']
  for (const credential of wrongly) {
    const answer = await call('GET', '/v1/responses/health', { credential })
    if (answer.status !== 401) throw unexpected(answer, 401, 'Whoever has no valid credential has to be refused.')
  }
  const accepted = await call('GET', '/v1/responses/health')
  if (accepted.status !== 200) {
    const whatToDo = 'Make a token with "openai-proxy create-jwt" on that server, and copy the whole of it.'
    throw unexpected(accepted, 200, whatToDo, { isFatal: true })
  }
  const listed = await call('GET', '/v1/api/users?limit=1')
  if (listed.status === 200) walk.admin = true
  else if (listed.code === 'insufficient_scope') walk.admin = 'the token has no scope org:admin.'
  else if (listed.status === 404) walk.admin = 'the admin API has a port of its own: name it with --admin-url.'
  else throw unexpected(listed, 200, 'The admin API lists users to a token with the scope org:admin.')
  await chooseUser(walk)
  return 'the token is accepted, and nothing else is.'
}

/** An empty body spends nothing, and who it is for is asked first. */
async function chooseUser(walk: Walk): Promise<void> {
  const withoutUser = await walk.call('POST', '/v1/responses', { body: {} })
  const isForMany = withoutUser.code === 'missing_user_id'
  if (!isForMany || walk.user !== undefined) return
  if (walk.admin !== true) {
    throw new CheckFailed(
      'this token speaks for many users, and could not remove one made for the test: name one there is with --user.',
      { isFatal: true },
    )
  }
  // Comes into being by its first request.
  walk.user = `${walk.prefix}-auto`
}

async function checkOpenAiKey({ call }: Walk): Promise<string> {
  const answer = await call('GET', '/v1/responses/health')
  if (answer.status !== 200) throw unexpected(answer, 200, "Look into the server's log.")
  const message = String(answer.field('message'))
  if (answer.field('status') === 'healthy') return message
  throw new CheckFailed(
    `${message} "openai-proxy create-key" adds a key; Troubleshooting in docs/administration.md has the rest.`,
  )
}

async function checkResponse(walk: Walk): Promise<string> {
  const { model, user } = walk
  // Before the call: should it fail half-way, the user may be there all the same.
  if (walk.admin === true && user?.startsWith(walk.prefix)) walk.cleanUp.push(() => removeUser(walk, user))
  const answer = await walk.call('POST', '/v1/responses', { user, body: question(model) })
  if (answer.status !== 200)
    throw unexpected(answer, 200, 'Is the model one that the key may use? --model names another.')
  const id = answer.field('id')
  const status = answer.field('status')
  walk.requestId = answer.headers.get('x-request-id') ?? undefined
  if (typeof id !== 'string' || !ENDS.includes(String(status)) || walk.requestId === undefined) {
    throw new CheckFailed('the answer is no whole response of OpenAI: is something in between that changes answers?')
  }
  return `${String(answer.field('model'))} answered (${status}), recorded as ${walk.requestId}.`
}

async function checkStreaming({ call, model, user }: Walk): Promise<string> {
  const answer = await call('POST', '/v1/responses', { user, body: { ...question(model), stream: true } })
  if (answer.status !== 200) throw unexpected(answer, 200, 'Is the model one that can stream?')
  const type = answer.headers.get('content-type') ?? ''
  const events = [...answer.text.matchAll(/^event: *(\S+)/gm)].map(([, name]) => name ?? '')
  const [first, last] = [events[0], events.at(-1)]
  if (
    !type.startsWith('text/event-stream') ||
    first !== 'response.created' ||
    !ENDS.includes(last?.split('.')[1] ?? '')
  ) {
    throw new CheckFailed(
      `the stream (${type || 'no content type'}) began with ${first ?? 'nothing'} and ended with ${last ?? 'nothing'}: is something in between that buffers or cuts it?`,
    )
  }
  return `${events.length} events, from ${first} to ${last}.`
}

/** A model that thinks may use all that it is given before it says anything. */
const ENDS = ['completed', 'incomplete']

async function checkRating({ call, requestId, user }: Walk): Promise<string> {
  if (requestId === undefined) throw new CheckSkipped('there is no answer to rate.')
  const rate = (id: string, rating: unknown) => call('POST', `/v1/responses/${id}/rate`, { user, body: { rating } })
  const rated = await rate(requestId, 1)
  if (rated.status !== 200) throw unexpected(rated, 200, 'A request may be rated by whom it was made for.')
  const nonsense = await rate(requestId, 7)
  if (nonsense.status !== 400 && nonsense.status !== 422) throw unexpected(nonsense, 400, 'Ratings are 1 or -1.')
  const unknown = await rate(`req_${'0'.repeat(32)}`, 1)
  if (unknown.status !== 404) throw unexpected(unknown, 404, 'There is no such request.')
  return 'an answer is rated; another rating than 1 or -1, and an unknown request, are refused.'
}

async function checkErrors({ call, model, user }: Walk): Promise<string> {
  const post = (body: unknown) => call('POST', '/v1/responses', { user, body })
  const expectations: [what: string, answer: Answer, statuses: number[]][] = [
    ['a path that is not there', await call('GET', '/v1/no-such-endpoint', { user }), [404]],
    ['a body that is no JSON', await post('{"model": '), [400, 422]],
    ['an unknown model', await post({ ...question(model), model: 'no-such' }), [400, 404, 422]],
    ["somebody else's answer", await call('GET', `/v1/responses/resp_${'0'.repeat(48)}`, { user }), [404]],
  ]
  for (const [what, answer, statuses] of expectations) {
    if (!statuses.includes(answer.status)) throw unexpected(answer, statuses[0] ?? 400, `That was ${what}.`)
    const isExplained = answer.message !== '' && answer.headers.has('x-request-id')
    if (!isExplained) {
      throw new CheckFailed(`the answer to ${what} explains nothing: is something in between that changes answers?`)
    }
  }
  return `refused, with a reason: ${expectations.map(([what]) => what).join(', ')}.`
}

async function checkUsers(walk: Walk): Promise<string> {
  if (walk.admin !== true) throw new CheckSkipped(walk.admin)
  const { call, prefix, user } = walk
  const externalId = `${prefix}-made`
  walk.cleanUp.push(() => removeUser(walk, externalId))
  const made = await call('POST', '/v1/api/users', { body: { user_id: externalId } })
  if (made.status !== 201) throw unexpected(made, 201, 'A user should have been made.')
  const again = await call('POST', '/v1/api/users', { body: { user_id: externalId } })
  const found = await call('GET', `/v1/api/users/${made.field('id')}`)
  if (again.field('id') !== made.field('id') || found.field('user_id') !== externalId) {
    throw new CheckFailed('the user that was made is not the one that is found afterwards: please report it.')
  }
  if (!user?.startsWith(prefix) || walk.requestId === undefined) return 'made, made again without effect, and found.'
  const automatic = await call('POST', '/v1/api/users', { body: { user_id: user } })
  // Both by the clock of the database: older than the one above means that the request made it.
  if (String(automatic.field('created_at')) > String(made.field('created_at'))) {
    throw new CheckFailed('a request with a new X-User-ID did not make that user: please report it.')
  }
  return 'made, made again without effect, and found; another one by its first request.'
}

async function checkApiKeys(walk: Walk): Promise<string> {
  if (walk.admin !== true) throw new CheckSkipped(walk.admin)
  const { call, prefix } = walk
  const owner = await call('POST', '/v1/api/users', { body: { user_id: `${prefix}-made` } })
  // Personal, and its user asks nothing: nobody's call is ever made with it.
  const openAiKey = `sk-${prefix}-is-not-a-real-key`
  const body = { openai_api_key: openAiKey, user_id: owner.field('id'), name: prefix }
  const made = await call('POST', '/v1/api/keys', { body })
  if (made.status !== 201) throw unexpected(made, 201, 'A key should have been made.')
  const id = String(made.field('id'))
  const path = `/v1/api/keys/${id}`
  walk.cleanUp.push(async () => {
    const gone = await walk.call('DELETE', path)
    if (gone.status !== 204) throw unexpected(gone, 204, `Deactivate the key ${id} by hand.`)
  })
  const listed = await call('GET', `/v1/api/keys?user_id=${owner.field('id')}`)
  const off = await call('PUT', path, { body: { is_active: false } })
  const found = await call('GET', path)
  if (!listed.text.includes(id) || off.status !== 200 || found.field('is_active') !== false) {
    throw new CheckFailed('the key that was made is not listed, or cannot be switched off: please report it.')
  }
  if ([made, listed, off, found].some(({ text }) => text.includes(openAiKey))) {
    throw new CheckFailed('the admin API shows OpenAI keys: please report it.')
  }
  return 'a personal key is made, listed and switched off, and its OpenAI key is shown nowhere.'
}

async function removeUser({ call }: Walk, externalId: string): Promise<void> {
  // Making what is there gives its id.
  const found = await call('POST', '/v1/api/users', { body: { user_id: externalId } })
  const gone = await call('DELETE', `/v1/api/users/${found.field('id')}`)
  if (gone.status !== 204) throw unexpected(gone, 204, `Remove the user ${externalId} by hand.`)
}

/** Not stored at OpenAI, and as short as it lets an answer be. */
function question(model: string) {
  return { model, input: 'Answer with one word: which colour has the sky?', max_output_tokens: 16, store: false }
}

function unexpected(answer: Answer, expected: number, whatToDo: string, options = {}): CheckFailed {
  const said = answer.message === '' ? '' : ` (${answer.code || 'no code'}: ${answer.message})`
  return new CheckFailed(`answered ${answer.status}${said} in place of ${expected}. ${whatToDo}`, options)
}
