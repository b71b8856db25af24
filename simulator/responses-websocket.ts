import { hash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { RawData, WebSocket } from 'ws'
import { ApiError, typicalError } from './api-error.ts'
import { behaviourOf } from './behaviour.ts'
import { newId } from './call.ts'
import type { Credentials } from './credentials.ts'
import { type FrameSender, openFrameSender } from './frame-sender.ts'
import { begunEntry, type LedgerEntry } from './ledger.ts'
import type { StoredResponse } from './objects.ts'
import { parseBody } from './request-body.ts'
import { responseEvents, warmUpEvents } from './response-events.ts'
import { type Answer, steerAway } from './responses.ts'
import { prepareResponse } from './responses-create.ts'
import type { StreamEvent } from './stream.ts'
import type { WebSocketState } from './websocket.ts'

/** A response under way on a connection, and the input that is to change its course. */
type Active = { answer: Answer; request: Record<string, unknown>; deltasSaid: number; steering: unknown[] }

/**
 * The WebSocket mode of the Responses API: any number of `response.create` frames, in order within a lane (`stream_id`) and
 * side by side between lanes. What is not to be stored is known on this connection all the same.
 */
export function serveResponses(
  state: WebSocketState,
  socket: WebSocket,
  request: IncomingMessage,
  { keyHash, project }: Credentials,
): void {
  const sender = openFrameSender(socket)
  const remembered = new Map<string, StoredResponse>()
  const active = new Map<string, Active>()
  const lanes = new Map<string, Promise<void>>()

  socket.on('message', (data: RawData, isBinary: boolean) => {
    const frame = isBinary ? undefined : parseBody(data as Buffer)
    if (frame?.type === 'response.create') enqueue(frame, data as Buffer)
    else if (frame?.type === 'response.steer') void steer(frame)
    else void sendError(sender, new ApiError(400, 'Expected a response.create event as JSON text.'), frame?.stream_id)
  })

  function enqueue(frame: Record<string, unknown>, raw: Buffer): void {
    const lane = String(frame.stream_id ?? '')
    const turn = (lanes.get(lane) ?? Promise.resolve()).then(() => answerFrame(frame, raw))
    lanes.set(lane, turn)
  }

  async function answerFrame(frame: Record<string, unknown>, raw: Buffer): Promise<void> {
    const { type, ...body } = frame
    const entry = state.ledger.open({
      ...begunEntry(request, keyHash, 'websocket'),
      method: String(type),
      stream: true,
      model: typeof body.model === 'string' ? body.model : null,
      bodySha256: hash('sha256', raw),
    })
    try {
      await create(body, entry)
    } catch (error) {
      const known = error instanceof ApiError ? error : new ApiError(500, `The simulator failed: ${error}`)
      entry.status = known.status
      await sendError(sender, known, body.stream_id)
    }
    entry.finished = entry.terminalSent
    entry.clientClosed = sender.closed() && !entry.terminalSent
    state.ledger.settle(entry)
  }

  async function create(body: Record<string, unknown>, entry: LedgerEntry): Promise<void> {
    if (body.background === true) throw new ApiError(400, 'Background mode is not supported over WebSocket.')
    const behaviour = behaviourOf(state.met, undefined, body.model)
    if (behaviour.delay !== undefined) await sender.pause(behaviour.delay)
    if (behaviour.reset === 'head') return socket.terminate()
    if (behaviour.status !== undefined) throw typicalError(behaviour.status, behaviour.code)
    const { answer, stored, finish } = prepareResponse(state.objects, { body, project, behaviour, remembered })
    const { id } = answer.response
    entry.status = 200
    entry.responseId = id
    entry.usage = { ...answer.input }
    const whenFinished: typeof finish = (response) => {
      finish(response)
      remembered.set(id, stored)
    }
    if (body.generate === false)
      return sender.sendEvents(warmUpEvents(answer, whenFinished), behaviour, entry, body.stream_id)
    const current: Active = { answer, request: body, deltasSaid: 0, steering: [] }
    active.set(id, current)
    await sender.sendEvents(watched(responseEvents(answer, whenFinished), current), behaviour, entry, body.stream_id)
    active.delete(id)
    if (current.steering.length > 0) succeed(id, current)
  }

  /** The response that follows a steered one by itself, with its settings: no frame of the client asks for it. */
  function succeed(id: string, { request, steering }: Active): void {
    const { input: _, generate: __, ...settings } = request
    const frame = { ...settings, type: 'response.create', previous_response_id: id, input: steering.flat() }
    enqueue(frame, Buffer.from(JSON.stringify(frame)))
  }

  async function steer({ previous_response_id, input }: Record<string, unknown>): Promise<void> {
    const target = active.get(String(previous_response_id))
    const lane = target?.request.stream_id
    const more = lane === undefined ? undefined : { stream_id: lane }
    if (!target) {
      const code = remembered.has(String(previous_response_id)) ? 'response_already_completed' : 'response_not_found'
      const error = { type: 'invalid_request_error', code, message: 'There is no such response under way.' }
      return sender.send({
        type: 'response.steer.failed',
        sequence_number: 0,
        steer: { previous_response_id, input },
        error,
      })
    }
    const text = (content: unknown) => ({ type: 'message', role: 'user', content })
    target.steering.push(typeof input === 'string' ? text(input) : input)
    await sender.send({
      type: 'response.steer.accepted',
      sequence_number: 0,
      steer: { id: newId('steer'), previous_response_id },
      ...more,
    })
  }
}

/** Counts what was said, and stops where the client has steered away. */
function* watched(events: Iterable<StreamEvent>, current: Active): Generator<StreamEvent> {
  let steered = false
  for (const event of events) {
    yield event
    current.deltasSaid += event.tokens
    if (steered || current.steering.length === 0 || current.deltasSaid === 0) continue
    steered = true
    steerAway(current.answer, current.deltasSaid)
  }
}

async function sendError(sender: FrameSender, error: ApiError, streamId: unknown): Promise<void> {
  const { status, type, code, message, param } = error
  const more = streamId === undefined ? undefined : { stream_id: streamId }
  await sender.send({ type: 'error', status, error: { type, code, message, param }, ...more })
}
