import type { BackgroundJob } from './background.ts'
import {
  type Answer,
  endingOf,
  FAILURE_MESSAGE,
  finishedResponse,
  outputItem,
  type ResponseObject,
  textPart,
} from './responses.ts'
import type { StreamEvent, Until } from './stream.ts'

/**
 * The events of a streamed response in OpenAI's order, made one by one as they are asked for.
 * `finish` is called once, before the last event, with the response as it ended.
 * @see https://platform.openai.com/docs/api-reference/responses-streaming
 */
export function* responseEvents(answer: Answer, finish: (response: ResponseObject) => void): Generator<StreamEvent> {
  const sequence = { next: 0 }
  const { response } = answer
  yield lifecycle(sequence, 'response.created', response)
  yield { ...lifecycle(sequence, 'response.in_progress', response), reasoningTokens: answer.behaviour.reasoning ?? 0 }
  yield* contentEvents(answer, sequence)
  const finished = finishedResponse(answer)
  finish(finished)
  yield lastEvent(answer, sequence, finished)
}

/** The same for a background response, which goes its way whether it is watched or not: the end waits for the job's. */
export function* backgroundEvents(
  stored: { response: ResponseObject },
  { answer, done }: BackgroundJob,
): Generator<StreamEvent | Until> {
  const sequence = { next: 0 }
  const queued = { ...answer.response, status: 'queued' as const }
  yield lifecycle(sequence, 'response.created', queued)
  yield lifecycle(sequence, 'response.queued', queued)
  yield lifecycle(sequence, 'response.in_progress', { ...answer.response, status: 'in_progress' })
  yield* contentEvents(answer, sequence)
  yield { until: done }
  // There is no event for it: the stream of a cancelled response just ends.
  if (stored.response.status !== 'cancelled') yield lastEvent(answer, sequence, stored.response)
}

type Sequence = { next: number }

/** A response whose input was only taken in, so that a later one starts sooner: no output. */
export function* warmUpEvents(answer: Answer, finish: (response: ResponseObject) => void): Generator<StreamEvent> {
  const sequence = { next: 0 }
  yield lifecycle(sequence, 'response.created', answer.response)
  const finished = finishedResponse({ ...answer, said: { ...answer.said, deltas: [] } })
  const response = { ...finished, output: [] }
  finish(response)
  yield { ...lifecycle(sequence, 'response.completed', response), terminal: true }
}

function* contentEvents(answer: Answer, sequence: Sequence): Generator<StreamEvent> {
  const { itemId, behaviour } = answer
  const isText = answer.said.tool === undefined
  const { items, annotations, silent } = answer.hosted
  const output_index = items.length
  const place = isText ? { item_id: itemId, output_index, content_index: 0 } : { item_id: itemId, output_index }
  for (const [index, item] of items.entries()) {
    yield event(sequence, 'response.output_item.added', {
      output_index: index,
      item: { ...item, status: 'in_progress', ...('result' in item ? { result: null } : undefined) },
    })
    const done = event(sequence, 'response.output_item.done', { output_index: index, item })
    yield silent ? { ...done, tokens: answer.said.deltas.length } : done
  }
  if (silent) return
  const opened = outputItem(answer, 'in_progress', '')
  yield event(sequence, 'response.output_item.added', { output_index, item: opened })
  if (isText) yield event(sequence, 'response.content_part.added', { ...place, part: textPart('') })

  const type = isText ? 'response.output_text.delta' : 'response.function_call_arguments.delta'
  const where = JSON.stringify(place).slice(1, -1)
  const logprobs = isText ? ',"logprobs":[]' : ''
  let untilKeepalive = 1
  // Looked at anew each time: steering cuts short what is being said.
  for (let index = 0; index < answer.said.deltas.length; index++) {
    const delta = answer.said.deltas[index] as string
    if (behaviour.keepalive !== undefined && --untilKeepalive === 0) {
      yield event(sequence, 'keepalive', {})
      untilKeepalive = behaviour.keepalive
    }
    const padding = answer.obfuscated ? `,"obfuscation":"${obfuscation(delta, sequence.next)}"` : ''
    const text = JSON.stringify(delta)
    const data = `{"type":"${type}","sequence_number":${sequence.next++},${where},"delta":${text}${logprobs}${padding}}`
    yield { type, data, tokens: 1 }
  }

  const ending = endingOf(answer)
  if (ending === 'failed' || ending === 'error') return
  const { said } = answer
  const text = said.deltas.join('')
  if (isText) {
    yield event(sequence, 'response.output_text.done', { ...place, text, logprobs: [] })
    for (const [annotation_index, annotation] of annotations.entries()) {
      yield event(sequence, 'response.output_text.annotation.added', { ...place, annotation_index, annotation })
    }
    yield event(sequence, 'response.content_part.done', { ...place, part: textPart(text, annotations) })
  } else {
    yield event(sequence, 'response.function_call_arguments.done', { ...place, name: said.tool, arguments: text })
  }
  yield event(sequence, 'response.output_item.done', { output_index, item: outputItem(answer, ending, text) })
}

function lastEvent(answer: Answer, sequence: Sequence, finished: ResponseObject): StreamEvent {
  if (endingOf(answer) !== 'error')
    return { ...lifecycle(sequence, `response.${finished.status}`, finished), terminal: true }
  const code = answer.behaviour.code ?? 'server_error'
  return { ...event(sequence, 'error', { code, message: FAILURE_MESSAGE, param: null }), terminal: true }
}

function lifecycle(sequence: Sequence, type: string, response: ResponseObject): StreamEvent {
  return event(sequence, type, { response })
}

function event(sequence: Sequence, type: string, fields: Record<string, unknown>): StreamEvent {
  return { type, data: JSON.stringify({ type, sequence_number: sequence.next++, ...fields }), tokens: 0 }
}

/** Hides the length of a delta from who watches encrypted traffic: pads it to the next multiple of 16. */
function obfuscation(delta: string, position: number): string {
  const length = 16 - (delta.length % 16)
  return PADDING.slice(position % 32, (position % 32) + length)
}

const PADDING = 'kQ3vZ8mRw1XcTf6NbY0sJhL4pDgU9eAoKi7VtE2rCq5xWzBnMu8yHd3aGjFl6PS'
