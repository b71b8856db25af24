import { refusalIn, type ServerFrame } from './frames.ts'
import type { SocketResponse } from './socket-response.ts'
import { textOf } from './watchers/answer-fields.ts'
import { isLifecycle } from './watchers/responses.ts'

/** Responses of one `stream_id`, which come one after the other. */
interface Lane {
  /** Asked for and not begun. */
  waiting: SocketResponse[]
  current: SocketResponse | undefined
  last: SocketResponse | undefined
}

/**
 * The responses of a WebSocket and which of them an event belongs to. Only some events name their response; the others belong to the
 * one under way in their lane, and those without a lane to the one that has none.
 */
export class Lanes {
  readonly #lanes = new Map<string, Lane>()
  readonly #ended = new Set<string>()
  readonly #follow: (before: SocketResponse) => SocketResponse

  /** @param follow makes the record of a response that nobody asked for: it follows a steered one with its settings. */
  constructor(follow: (before: SocketResponse) => SocketResponse) {
    this.#follow = follow
  }

  /** Its frame is about to leave. */
  expect(response: SocketResponse): void {
    const { streamId } = response.call
    const lane = this.#lanes.get(keyOf(streamId)) ?? { waiting: [], current: undefined, last: undefined }
    if (this.#lanes.size >= LANES_MAX) this.#forgetIdle()
    lane.waiting.push(response)
    this.#lanes.set(keyOf(streamId), lane)
  }

  /** All that have not ended, and whether they may have begun. */
  open(): { response: SocketResponse; hasBegun: boolean }[] {
    return [...this.#lanes.values()].flatMap(({ current, waiting }) =>
      (current && !current.isOver ? [current, ...waiting] : waiting)
        .filter(({ isOver }) => !isOver)
        .map((response, index) => ({ response, hasBegun: index === 0 })),
    )
  }

  /** Those whose secrets an event could tell that belongs to none of them. */
  hiding(streamId: string | undefined): SocketResponse[] {
    const { last } = this.#lanes.get(keyOf(streamId)) ?? {}
    return [...this.open().map(({ response }) => response), ...(last ? [last] : [])]
  }

  /** The response that an event belongs to, told of it. */
  take(frame: ServerFrame, bytes: Buffer): SocketResponse | undefined {
    const lane = this.#laneOf(frame)
    if (!lane) return undefined
    if (frame.type === 'error') return this.#takeError(lane, frame, bytes)
    const id = isLifecycle(frame.type) ? textOf(frame.json.value('response.id')) : null
    if (id !== null && this.#ended.has(id)) return undefined
    if (id !== null && lane.current?.id !== id) this.#begin(lane, frame)
    const { current } = lane
    current?.onEvent(frame, bytes)
    if (current?.isOver) this.#leave(lane)
    return current
  }

  /** An event that does not say its lane is of the one without a name, or of whichever has something to tell. */
  #laneOf({ streamId }: ServerFrame): Lane | undefined {
    const lane = this.#lanes.get(keyOf(streamId))
    if (streamId !== undefined || (lane && !isIdle(lane))) return lane
    return [...this.#lanes.values()].find((other) => !isIdle(other)) ?? lane
  }

  #forgetIdle(): void {
    for (const [name, lane] of this.#lanes) if (isIdle(lane)) this.#lanes.delete(name)
  }

  /** A response that has ended without an event is out of the way of the next. */
  #begin(lane: Lane, frame: ServerFrame): void {
    if (lane.current) {
      lane.current.end('upstream_error', 'no_terminal_event')
      this.#leave(lane)
    }
    lane.waiting = lane.waiting.filter(({ isOver }) => !isOver)
    const { last } = lane
    const isAskedFor = !last || !isSuccessor(frame, last) || lane.waiting[0]?.call.previousResponseId === last.id
    lane.current = (isAskedFor ? lane.waiting.shift() : undefined) ?? (last && this.#follow(last))
  }

  /** An error refuses what has not begun; in the form that streams have it ends what is under way. */
  #takeError(lane: Lane, frame: ServerFrame, bytes: Buffer): SocketResponse | undefined {
    const refusal = refusalIn(frame)
    const { current } = lane
    if (current && !refusal) {
      current.onEvent(frame, bytes)
      this.#leave(lane)
      return current
    }
    lane.waiting = lane.waiting.filter(({ isOver }) => !isOver)
    const next = lane.waiting.shift()
    if (next) next.refuse(refusal?.status ?? null, refusal?.error ?? { code: frame.json.value('code') })
    else if (refusal) current?.suspect(refusal.error)
    return next ?? current
  }

  #leave(lane: Lane): void {
    const { current } = lane
    lane.current = undefined
    lane.last = current
    const [next] = lane.waiting
    if (next) next.lastMovedAt = performance.now()
    if (typeof current?.id !== 'string') return
    this.#ended.add(current.id)
    if (this.#ended.size > ENDED_MAX) this.#ended.delete(this.#ended.values().next().value ?? '')
  }
}

const ENDED_MAX = 100
const LANES_MAX = 1000

function isIdle({ current, waiting }: Lane): boolean {
  return current === undefined && waiting.length === 0
}

function isSuccessor(frame: ServerFrame, last: SocketResponse): boolean {
  return last.wasSteered && frame.json.value('response.previous_response_id') === last.id
}

function keyOf(streamId: string | undefined): string {
  return streamId ?? ''
}
