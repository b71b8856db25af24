import type { Behaviour } from './behaviour.ts'
import { type Call, pause, send, sendHead, waitFor } from './call.ts'
import type { ProducedTokens } from './ledger.ts'

/** One server-sent event before it is written. */
export type StreamEvent = {
  /** The `event:` line; none if undefined. */
  type: string | undefined
  /** The `data:` line. */
  data: string
  /** Output tokens this event brings: generation is paced, and counted, by them. */
  tokens: number
  reasoningTokens?: number
  terminal?: boolean
}

/** Not an event: nothing goes on before this has settled. */
export type Until = { until: Promise<unknown> }

const BATCH_BYTES = 16 * 1024

/**
 * Writes events as they are generated, at the pace and with the faults asked for. Nothing is generated for a client that
 * has gone, or faster than it reads. What goes out is counted in `produced`, if that is this stream's business.
 */
export async function streamEvents(
  call: Call,
  events: Iterable<StreamEvent | Until>,
  produced: ProducedTokens | null | undefined,
): Promise<void> {
  const { behaviour, entry } = call
  sendHead(call, 200, 'text/event-stream; charset=utf-8', { 'cache-control': 'no-cache' })
  if (behaviour.first !== undefined) {
    call.response.flushHeaders()
    await pause(call, behaviour.first)
  }
  if (behaviour.garbage) return sendGarbage(call)

  const newline = { lf: '\n', cr: '\r', crlf: '\r\n' }[behaviour.eol ?? 'lf']
  const msPerToken = behaviour.tps ? 1000 / behaviour.tps : 0
  let generationBegan: number | undefined
  let deltas = 0
  let written = 0
  let batch = ''
  let ended = false
  let tokens = 0
  let reasoningTokens = 0

  const flush = async () => {
    if (batch === '' || call.closed || call.cut) return
    const bytes = Buffer.from(batch)
    batch = ''
    if (produced) {
      produced.output_tokens += tokens + reasoningTokens
      produced.reasoning_tokens += reasoningTokens
    }
    tokens = reasoningTokens = 0
    await send(call, bytes)
    if (ended && !call.cut) entry.terminalSent = true
  }

  for (const event of events) {
    if ('until' in event) {
      await flush()
      await waitFor(call, event.until)
      continue
    }
    if (written === behaviour.stall_after) {
      await flush()
      await waitFor(call)
      return
    }
    if (written === behaviour.end_after) break
    if (msPerToken > 0 && event.tokens > 0) {
      await flush()
      generationBegan ??= performance.now()
      await pause(call, generationBegan + ++deltas * msPerToken - performance.now())
    }
    if (call.closed || call.cut) return
    if (behaviour.comments && written % behaviour.comments === 0) batch += `: ping${newline}${newline}`
    batch += render(event, newline, behaviour)
    tokens += event.tokens
    reasoningTokens += event.reasoningTokens ?? 0
    written++
    if (event.terminal) ended = true
    if (msPerToken > 0 || batch.length >= BATCH_BYTES) await flush()
  }
  if (ended && behaviour.done) batch += `data: [DONE]${newline}${newline}`
  await flush()
  if (!call.cut) call.response.end()
}

function render({ type, data }: StreamEvent, newline: string, { no_event_lines }: Behaviour): string {
  const head = type === undefined || no_event_lines ? '' : `event: ${type}${newline}`
  return `${head}data: ${data}${newline}${newline}`
}

async function sendGarbage(call: Call): Promise<void> {
  await send(call, Buffer.from('event: response.created\ndata: {"type":"response.created","sequence_num\n\n'))
  await send(call, Buffer.from('data: not JSON at all\n\nno field name\n\ndata\n\n'))
  await send(call, Buffer.from([0x64, 0x61, 0x74, 0x61, 0x3a, 0xff, 0xfe, 0x00, 0x0a, 0x0a]))
  if (!call.cut) call.response.end()
}
