import type { IncomingMessage } from 'node:http'
import type { RawData, WebSocket } from 'ws'
import { behaviourOf } from './behaviour.ts'
import { newId } from './call.ts'
import type { Credentials } from './credentials.ts'
import { openFrameSender } from './frame-sender.ts'
import { begunEntry, type LedgerEntry } from './ledger.ts'
import { parseBody } from './request-body.ts'
import { questionIn, whatToSay } from './said.ts'
import type { StreamEvent } from './stream.ts'
import { charsIn, inputTokens } from './usage.ts'
import type { WebSocketState } from './websocket.ts'

/** The Realtime API in text alone: a session, items, and responses with their usage. @see https://platform.openai.com/docs/api-reference/realtime */
export function serveRealtime(
  state: WebSocketState,
  socket: WebSocket,
  request: IncomingMessage,
  { keyHash }: Credentials,
): void {
  const sender = openFrameSender(socket)
  const model = new URLSearchParams((request.url ?? '').split('?')[1]).get('model') ?? 'gpt-realtime-2'
  const items: Record<string, unknown>[] = []
  let session: Record<string, unknown> = { id: newId('sess'), object: 'realtime.session', type: 'realtime', model }
  const say = (type: string, fields: Record<string, unknown>) =>
    sender.send({ type, event_id: newId('event'), ...fields })

  void say('session.created', { session })
  socket.on('message', (data: RawData) => {
    const event = parseBody(data as Buffer)
    switch (event?.type) {
      case 'session.update':
        session = { ...session, ...(event.session as object) }
        return void say('session.updated', { session })
      case 'conversation.item.create': {
        const item = { id: newId('item'), ...(event.item as object) }
        const previous_item_id = items.at(-1)?.id ?? null
        items.push(item)
        return void say('conversation.item.added', { item, previous_item_id })
      }
      case 'response.create':
        return void respond((event.response ?? {}) as Record<string, unknown>)
      default: {
        const error = { type: 'invalid_request_error', code: 'unknown_event', message: 'Unknown event.', param: null }
        return void say('error', { error })
      }
    }
  })

  async function respond(asked: Record<string, unknown>): Promise<void> {
    const entry = state.ledger.open({ ...begunEntry(request, keyHash, 'websocket'), method: 'response.create', model })
    entry.status = 200
    entry.stream = true
    await sender.sendEvents(events(asked, entry), behaviourOf(state.met, undefined, model), entry)
    entry.finished = entry.terminalSent
    state.ledger.settle(entry)
  }

  function* events(asked: Record<string, unknown>, entry: LedgerEntry): Generator<StreamEvent> {
    const behaviour = behaviourOf(state.met, undefined, model)
    const input = Array.isArray(asked.input) ? asked.input : items
    const { deltas } = whatToSay({}, questionIn(input), undefined, behaviour)
    const instructions = asked.instructions ?? session.instructions
    const tokens = inputTokens(charsIn(input) + charsIn(instructions), behaviour)
    const response = { id: newId('resp'), object: 'realtime.response', status: 'in_progress', output: [] as unknown[] }
    entry.responseId = response.id
    entry.usage = { ...tokens }
    const place = { response_id: response.id, item_id: newId('item'), output_index: 0, content_index: 0 }
    yield event('response.created', { response })
    for (const delta of deltas) yield event('response.output_text.delta', { ...place, delta }, 1)
    const text = deltas.join('')
    const item = { id: place.item_id, type: 'message', role: 'assistant', content: [{ type: 'output_text', text }] }
    items.push(item)
    yield event('response.output_text.done', { ...place, text })
    const usage = {
      input_tokens: tokens.input_tokens,
      input_token_details: { text_tokens: tokens.input_tokens, audio_tokens: 0, cached_tokens: tokens.cached_tokens },
      output_tokens: deltas.length,
      output_token_details: { text_tokens: deltas.length, audio_tokens: 0 },
      total_tokens: tokens.input_tokens + deltas.length,
    }
    const done = { ...response, status: 'completed', output: [item], usage }
    yield { ...event('response.done', { response: done }), terminal: true }
  }
}

function event(type: string, fields: Record<string, unknown>, tokens = 0): StreamEvent {
  return { type, data: JSON.stringify({ type, event_id: newId('event'), ...fields }), tokens }
}
