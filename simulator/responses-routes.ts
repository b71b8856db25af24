import { ApiError } from './api-error.ts'
import { runInBackground } from './background.ts'
import { type Call, newId, pause, sendJson } from './call.ts'
import { inputItems, pageOf } from './input-items.ts'
import { isUnknownModel } from './models.ts'
import { modelOf } from './request-body.ts'
import { backgroundEvents, responseEvents } from './response-events.ts'
import type { ResponseStore, Stored } from './response-store.ts'
import {
  type Answer,
  decideAnswer,
  endingOf,
  FAILURE_MESSAGE,
  finishedResponse,
  type ResponseObject,
  tokensOfAnswer,
} from './responses.ts'
import { questionIn } from './said.ts'
import { streamEvents } from './stream.ts'
import { charsIn, inputTokens, responsesUsage, tokensOf } from './usage.ts'

type Deps = { store: ResponseStore }

/** `POST /v1/responses` */
export function createResponse({ store }: Deps, call: Call): Promise<void> | undefined {
  const { body, behaviour, project, entry } = call
  const model = modelOfResponse(body)
  const previous = previousOf(store, call)
  if (body.input === undefined && !previous && !body.prompt && !body.conversation) {
    throw new ApiError(
      400,
      'One of "input" or "previous_response_id" or \'prompt\' or \'conversation_id\' must be provided.',
      { param: 'input', code: 'missing_required_parameter' },
    )
  }
  const question = questionIn(body.input)
  const answer = decideAnswer(body, model, question, previous, behaviour)
  entry.responseId = answer.response.id
  entry.usage = { ...answer.input }
  if (body.background === true) return createInBackground({ store }, call, answer)
  const finish = (response: ResponseObject) => {
    if (body.store !== false) store.save(project, toStored(answer, response, body.input))
  }
  if (body.stream === true) return streamEvents(call, responseEvents(answer, finish), entry.usage)
  return behaviour.tps ? answerSlowly(call, answer, finish) : answerNow(call, answer, finish)
}

async function answerSlowly(call: Call, answer: Answer, finish: (response: ResponseObject) => void): Promise<void> {
  const tokensPerMs = (call.behaviour.tps ?? 0) / 1000
  const began = performance.now()
  await pause(call, answer.said.deltas.length / tokensPerMs)
  if (!call.closed) return answerNow(call, answer, finish)
  if (call.entry.usage) call.entry.usage.output_tokens = Math.floor((performance.now() - began) * tokensPerMs)
}

function answerNow(call: Call, answer: Answer, finish: (response: ResponseObject) => void): Promise<void> | undefined {
  call.entry.usage = tokensOfAnswer(answer)
  if (endingOf(answer) === 'error') {
    throw new ApiError(500, FAILURE_MESSAGE, { code: call.behaviour.code ?? 'server_error' })
  }
  const response = finishedResponse(answer)
  finish(response)
  return sendJson(call, 200, response)
}

function createInBackground({ store }: Deps, call: Call, answer: Answer): Promise<void> | undefined {
  const { body, project, entry } = call
  if (body.store === false) {
    throw new ApiError(400, 'Background mode requires store=true.', { param: 'background', code: 'invalid_parameter' })
  }
  const stored = toStored(answer, answer.response, body.input)
  const job = runInBackground(stored, answer, (outputTokens) => {
    if (entry.usage) entry.usage.output_tokens = outputTokens
  })
  stored.job = job
  call.outlivedBy = job.done
  store.save(project, stored)
  // Not counted here: the tokens are the job's, whether or not somebody watches.
  return body.stream === true
    ? streamEvents(call, backgroundEvents(stored, job), undefined)
    : sendJson(call, 200, stored.response)
}

function toStored(answer: Answer, response: ResponseObject, input: unknown): Stored {
  const { contextChars, question } = answer
  return { response, inputItems: inputItems(input), contextChars, question, job: undefined }
}

/** `GET /v1/responses/{id}`, and with `?stream=true` what a background response tells from the start or after an event. */
export function getResponse(
  { store }: Deps,
  call: Call,
  id: string,
  query: URLSearchParams,
): Promise<void> | undefined {
  const stored = store.get(call.project, id)
  if (query.get('stream') !== 'true') return sendJson(call, 200, stored.response)
  const { job } = stored
  if (!job) throw new ApiError(404, `Response with id '${id}' can not be streamed: it is not a background response.`)
  const after = Number(query.get('starting_after') ?? -1)
  return streamEvents(call, laterThan(backgroundEvents(stored, job), after), undefined)
}

/** Every event has a number, counted from 0. */
function* laterThan<T extends object>(events: Iterable<T>, sequenceNumber: number): Generator<T> {
  let next = 0
  for (const event of events) {
    if ('until' in event || next++ > sequenceNumber) yield event
  }
}

/** `DELETE /v1/responses/{id}` */
export function deleteResponse({ store }: Deps, call: Call, id: string): Promise<void> | undefined {
  store.get(call.project, id).job?.cancel()
  store.remove(call.project, id)
  return sendJson(call, 200, { id, object: 'response', deleted: true })
}

/** `POST /v1/responses/{id}/cancel`; what has already ended stays as it is. */
export function cancelResponse({ store }: Deps, call: Call, id: string): Promise<void> | undefined {
  const stored = store.get(call.project, id)
  if (!stored.job) throw new ApiError(400, 'Cannot cancel a synchronous response.')
  stored.job.cancel()
  return sendJson(call, 200, stored.response)
}

/** `GET /v1/responses/{id}/input_items`: the items of this response's own request. */
export function listInputItems(
  { store }: Deps,
  call: Call,
  id: string,
  query: URLSearchParams,
): Promise<void> | undefined {
  return sendJson(call, 200, pageOf(store.get(call.project, id).inputItems, query))
}

/** `POST /v1/responses/input_tokens` */
export function countInputTokens({ store }: Deps, call: Call): Promise<void> | undefined {
  const { body, behaviour } = call
  modelOfResponse(body)
  const chars = charsIn(body.input) + charsIn(body.instructions) + (previousOf(store, call)?.contextChars ?? 0)
  return sendJson(call, 200, { object: 'response.input_tokens', input_tokens: behaviour.input ?? tokensOf(chars) })
}

/** `POST /v1/responses/compact`: one item that stands for the whole input, for 10 output tokens. */
export function compactResponse({ store }: Deps, call: Call): Promise<void> | undefined {
  const { body, behaviour, entry } = call
  modelOfResponse(body)
  const chars = charsIn(body.input) + charsIn(body.instructions) + (previousOf(store, call)?.contextChars ?? 0)
  const tokens = { ...inputTokens(chars, behaviour), output_tokens: 10 }
  const id = newId('resp')
  entry.responseId = id
  entry.usage = tokens
  return sendJson(call, 200, {
    id,
    object: 'response.compaction',
    created_at: Math.floor(Date.now() / 1000),
    output: [{ id: newId('cmp'), type: 'compaction', encrypted_content: 'c2ltdWxhdGVk' }],
    usage: responsesUsage(tokens, behaviour),
  })
}

function modelOfResponse(body: Record<string, unknown>): string {
  if (body.model === undefined && body.prompt) return 'gpt-4o-mini'
  const model = modelOf(body)
  if (!isUnknownModel(model)) return model
  throw new ApiError(400, `The requested model '${model}' does not exist.`, { param: 'model', code: 'model_not_found' })
}

function previousOf(store: ResponseStore, { project, body }: Call): Stored | undefined {
  const id = body.previous_response_id
  if (id === undefined || id === null) return undefined
  const previous = store.find(project, String(id))
  if (previous) return previous
  throw new ApiError(400, `Previous response with id '${id}' not found.`, {
    param: 'previous_response_id',
    code: 'previous_response_not_found',
  })
}
