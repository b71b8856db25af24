import { ApiError } from './api-error.ts'
import { runInBackground } from './background.ts'
import { type Call, newId, pause, sendJson } from './call.ts'
import { json, param, type Routes } from './handler.ts'
import { compactionItem } from './hosted-tools.ts'
import { deleted, now, type Objects, type StoredResponse } from './objects.ts'
import { pageOf } from './page.ts'
import { backgroundEvents, responseEvents } from './response-events.ts'
import { endingOf, FAILURE_MESSAGE, finishedResponse, tokensOfAnswer } from './responses.ts'
import { charsAsked, type Prepared, prepareResponse } from './responses-create.ts'
import { streamEvents } from './stream.ts'
import { inputTokens, responsesUsage, tokensOf } from './usage.ts'

/** @see https://platform.openai.com/docs/api-reference/responses */
export const responseRoutes: Routes = {
  'POST /responses': json(({ objects }, call) => createResponse(objects, call)),

  'GET /responses/{response}': ({ objects }, call) => {
    const stored = responseAsked(objects, call)
    const query = new URLSearchParams(call.query)
    if (query.get('stream') !== 'true') return sendJson(call, 200, stored.response)
    const { job } = stored
    if (!job) {
      const { id } = stored.response
      throw new ApiError(404, `Response with id '${id}' can not be streamed: it is not a background response.`)
    }
    const after = Number(query.get('starting_after') ?? -1)
    return streamEvents(call, laterThan(backgroundEvents(stored, job), after), undefined)
  },

  'DELETE /responses/{response}': ({ objects }, call) => {
    const { job, response } = objects.responses.remove(call.project, param(call, 'response'))
    job?.cancel()
    return sendJson(call, 200, deleted(response.id, 'response'))
  },

  // What has already ended stays as it is.
  'POST /responses/{response}/cancel': ({ objects }, call) => {
    const stored = responseAsked(objects, call)
    if (!stored.job) throw new ApiError(400, 'Cannot cancel a synchronous response.')
    stored.job.cancel()
    return sendJson(call, 200, stored.response)
  },

  // The items of this response's own request.
  'GET /responses/{response}/input_items': ({ objects }, call) =>
    sendJson(call, 200, pageOf(responseAsked(objects, call).inputItems, call.query)),

  'POST /responses/input_tokens': json(({ objects }, call) => {
    const input_tokens = call.behaviour.input ?? tokensOf(charsAsked(objects, call))
    return sendJson(call, 200, { object: 'response.input_tokens', input_tokens })
  }),

  // One item that stands for the whole input, for 10 output tokens.
  'POST /responses/compact': json(({ objects }, call) => {
    const { behaviour, entry } = call
    const tokens = { ...inputTokens(charsAsked(objects, call), behaviour), output_tokens: 10 }
    const id = newId('resp')
    entry.responseId = id
    entry.usage = tokens
    return sendJson(call, 200, {
      id,
      object: 'response.compaction',
      created_at: now(),
      output: [compactionItem()],
      usage: responsesUsage(tokens, behaviour),
    })
  }),
}

function createResponse(objects: Objects, call: Call): Promise<void> | undefined {
  const { body, behaviour, entry } = call
  const prepared = prepareResponse(objects, call)
  const { answer, finish } = prepared
  entry.responseId = answer.response.id
  entry.usage = { ...answer.input }
  if (body.background === true) return createInBackground(call, prepared)
  if (body.stream === true) return streamEvents(call, responseEvents(answer, finish), entry.usage)
  return behaviour.tps ? answerSlowly(call, prepared) : answerNow(call, prepared)
}

async function answerSlowly(call: Call, prepared: Prepared): Promise<void> {
  const tokensPerMs = (call.behaviour.tps ?? 0) / 1000
  const began = performance.now()
  await pause(call, prepared.answer.said.deltas.length / tokensPerMs)
  if (!call.closed) return answerNow(call, prepared)
  if (call.entry.usage) call.entry.usage.output_tokens = Math.floor((performance.now() - began) * tokensPerMs)
}

function answerNow(call: Call, { answer, finish }: Prepared): Promise<void> | undefined {
  call.entry.usage = tokensOfAnswer(answer)
  if (endingOf(answer) === 'error') {
    throw new ApiError(500, FAILURE_MESSAGE, { code: call.behaviour.code ?? 'server_error' })
  }
  const response = finishedResponse(answer)
  finish(response)
  return sendJson(call, 200, response)
}

function createInBackground(call: Call, { answer, stored, finish }: Prepared): Promise<void> | undefined {
  const { body, entry } = call
  if (body.store === false) {
    throw new ApiError(400, 'Background mode requires store=true.', { param: 'background', code: 'invalid_parameter' })
  }
  const job = runInBackground(stored, answer, (outputTokens) => {
    if (entry.usage) entry.usage.output_tokens = outputTokens
  })
  stored.job = job
  call.outlivedBy = job.done
  finish(answer.response)
  // Not counted here: the tokens are the job's, whether or not somebody watches.
  return body.stream === true
    ? streamEvents(call, backgroundEvents(stored, job), undefined)
    : sendJson(call, 200, stored.response)
}

/** Every event has a number, counted from 0. */
function* laterThan<T extends object>(events: Iterable<T>, sequenceNumber: number): Generator<T> {
  let next = 0
  for (const event of events) {
    if ('until' in event || next++ > sequenceNumber) yield event
  }
}

function responseAsked(objects: Objects, call: Call): StoredResponse {
  return objects.responses.get(call.project, param(call, 'response'))
}
