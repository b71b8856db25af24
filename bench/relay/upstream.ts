import { createServer, type Socket } from 'node:net'

/**
 * OpenAI as far as a measurement needs it, in a process of its own: prebuilt answers over bare sockets, so that it takes as little of
 * the machine as possible. A stream's events carry the time at which they left (nanoseconds of the system's monotonic clock, which
 * all processes share), so that their way can be timed one by one.
 */
const ANSWER = JSON.stringify({
  id: 'resp_bench0000000000000000000000000000000000',
  object: 'response',
  created_at: 1_790_000_000,
  status: 'completed',
  error: null,
  incomplete_details: null,
  instructions: null,
  max_output_tokens: null,
  model: 'gpt-4o-mini-2024-07-18',
  output: [
    {
      type: 'message',
      id: 'msg_bench',
      status: 'completed',
      role: 'assistant',
      content: [{ type: 'output_text', text: 'The capital of France is Paris. '.repeat(8), annotations: [] }],
    },
  ],
  parallel_tool_calls: true,
  previous_response_id: null,
  reasoning: { effort: null, summary: null },
  service_tier: 'default',
  store: true,
  temperature: 1,
  text: { format: { type: 'text' } },
  tool_choice: 'auto',
  tools: [],
  top_p: 1,
  truncation: 'disabled',
  usage: {
    input_tokens: 250,
    input_tokens_details: { cached_tokens: 0 },
    output_tokens: 64,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: 314,
  },
  user: null,
  metadata: {},
})
const WHOLE = Buffer.from(
  `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${ANSWER.length}\r\nx-request-id: req_bench\r\n\r\n${ANSWER}`,
)
const STREAM_HEAD = 'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n'
const HEADERS_END = Buffer.from('\r\n\r\n')

export interface StreamShape {
  events: number
  gapMs: number
}

let shape: StreamShape = { events: 50, gapMs: 20 }
process.on('message', (message: StreamShape) => {
  shape = message
})
process.on('disconnect', () => process.exit(0))

const server = createServer({ noDelay: true }, serve)
server.listen({ port: 0, host: '127.0.0.1', backlog: 8192 }, () => {
  const address = server.address()
  if (address && typeof address === 'object') process.send?.(address.port)
})

function serve(socket: Socket): void {
  let head: Buffer = Buffer.alloc(0)
  let bodyLeft = 0
  let isStream = false
  /** Of a chunked body, which some gateways send: looked at only for its end. */
  let isChunked = false
  let tail = ''
  socket.on('error', () => {})
  socket.on('data', (chunk: Buffer) => {
    let rest = chunk
    while (rest.length > 0) {
      if (isChunked) {
        tail = (tail + rest.toString('latin1')).slice(-4096)
        isStream ||= tail.includes('"stream":true')
        if (!tail.endsWith('0\r\n\r\n')) return
        isChunked = false
        tail = ''
        answer(socket, isStream)
        return
      }
      if (bodyLeft > 0) {
        const piece = rest.subarray(0, bodyLeft)
        isStream ||= piece.subarray(0, 512).includes('"stream":true')
        bodyLeft -= piece.length
        rest = rest.subarray(piece.length)
        if (bodyLeft === 0) answer(socket, isStream)
        continue
      }
      head = head.length === 0 ? rest : Buffer.concat([head, rest])
      const end = head.indexOf(HEADERS_END)
      if (end === -1) return
      const text = head.toString('latin1', 0, end).toLowerCase()
      rest = head.subarray(end + 4)
      head = Buffer.alloc(0)
      isStream = false
      bodyLeft = Number(/\r\ncontent-length: *(\d+)/.exec(text)?.[1] ?? 0)
      isChunked = text.includes('\r\ntransfer-encoding: chunked')
      if (bodyLeft === 0 && !isChunked) answer(socket, false)
    }
  })
}

function answer(socket: Socket, isStream: boolean): void {
  if (!isStream) {
    socket.write(WHOLE)
    return
  }
  const { events, gapMs } = shape
  let sent = 0
  const created = event('response.created', { response: { id: 'resp_bench', status: 'in_progress', usage: null } })
  socket.write(STREAM_HEAD + toChunk(created))
  const timer = setInterval(() => {
    if (socket.destroyed) {
      clearInterval(timer)
      return
    }
    sent += 1
    if (sent <= events) {
      socket.write(
        toChunk(event('response.output_text.delta', { item_id: 'msg_bench', output_index: 0, delta: ' word' })),
      )
      return
    }
    clearInterval(timer)
    socket.write(`${toChunk(event('response.completed', { response: JSON.parse(ANSWER) }))}0\r\n\r\n`)
  }, gapMs)
}

function event(type: string, fields: object): string {
  return `event: ${type}\ndata: ${JSON.stringify({ type, at: String(process.hrtime.bigint()), ...fields })}\n\n`
}

function toChunk(text: string): string {
  return `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`
}
