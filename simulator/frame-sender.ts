import { setTimeout } from 'node:timers/promises'
import { WebSocket } from 'ws'
import type { Behaviour } from './behaviour.ts'
import type { LedgerEntry } from './ledger.ts'
import type { StreamEvent } from './stream.ts'

/** Sends over a WebSocket, not faster than the client reads, and stops when the client has gone. */
export type FrameSender = {
  send(event: Record<string, unknown>): Promise<void>
  /** The events of one response, at the pace and with the faults asked for; counted in `entry` as they go out. */
  sendEvents(events: Iterable<StreamEvent>, behaviour: Behaviour, entry: LedgerEntry, streamId?: unknown): Promise<void>
  pause(ms: number): Promise<void>
  closed(): boolean
}

export function openFrameSender(socket: WebSocket): FrameSender {
  const gone = new AbortController()
  socket.on('close', () => gone.abort())
  socket.on('error', () => undefined)

  const closed = () => socket.readyState !== WebSocket.OPEN
  const sendText = (text: string) =>
    closed() ? Promise.resolve() : new Promise<void>((resolve) => socket.send(text, () => resolve()))
  const pause = (ms: number | undefined) =>
    setTimeout(ms ?? 2 ** 31 - 1, undefined, { signal: gone.signal }).catch(() => {})

  async function sendEvents(
    events: Iterable<StreamEvent>,
    behaviour: Behaviour,
    entry: LedgerEntry,
    streamId?: unknown,
  ): Promise<void> {
    const { first, tps, stall_after, end_after, reset, garbage } = behaviour
    if (first !== undefined) await pause(first)
    if (garbage) return sendText('{"type":"response.created","sequence_num')
    const lane = streamId === undefined ? '' : `,"stream_id":${JSON.stringify(streamId)}`
    let written = 0
    for (const { data, tokens, reasoningTokens = 0, terminal } of events) {
      if (written === stall_after) return pause(undefined)
      if (written === end_after) return socket.close(1000)
      if (tps && tokens > 0) await pause((tokens * 1000) / tps)
      if (closed()) return
      const text = `${data.slice(0, -1)}${lane}}`
      if (typeof reset === 'number' && entry.bytesSent + text.length > reset) return socket.terminate()
      await sendText(text)
      written++
      entry.bytesSent += Buffer.byteLength(text)
      if (entry.usage) {
        entry.usage.output_tokens += tokens + reasoningTokens
        entry.usage.reasoning_tokens += reasoningTokens
      }
      if (terminal && !closed()) entry.terminalSent = true
    }
  }

  return { send: (event) => sendText(JSON.stringify(event)), sendEvents, pause, closed }
}
