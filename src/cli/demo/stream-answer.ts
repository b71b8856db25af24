import { AppError } from '../../errors.ts'

/**
 * Asks through the proxy with nothing but `fetch`, and writes the answer as it arrives.
 * @returns the request's id.
 */
export async function streamAnswer(ask: {
  url: string
  key: string
  input: string
  signal: AbortSignal
  write: (text: string) => void
}): Promise<string> {
  const response = await fetch(`${ask.url}/v1/responses`, {
    method: 'POST',
    headers: { authorization: `Bearer ${ask.key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: MODEL, input: ask.input, stream: true }),
    signal: AbortSignal.any([ask.signal, AbortSignal.timeout(ANSWER_TIMEOUT_MS)]),
  })
  if (!response.ok || !response.body)
    throw new AppError('upstream_unreachable', `The proxy answered ${response.status}.`)
  for await (const event of events(response.body)) {
    if (event.type === 'response.output_text.delta' && event.delta) ask.write(event.delta)
  }
  return response.headers.get('x-request-id') ?? ''
}

/** The simulated OpenAI takes its orders in the model's name: gpt-4o-mini, at the pace of a real one. */
const MODEL = 'sim:model=gpt-4o-mini,tps=12'
const ANSWER_TIMEOUT_MS = 30_000

/** Server-sent events as `JSON.parse` reads their data. */
async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<{ type?: string; delta?: string }> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const chunk of body) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line.startsWith('data: {')) yield JSON.parse(line.slice('data: '.length))
    }
  }
}
