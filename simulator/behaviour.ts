import { ApiError } from './api-error.ts'

/**
 * What a request asks the simulator to do, in one small language: `key=value` pairs and bare flags, separated by commas.
 * It is written in the model name after `sim:` (`"model": "sim:status=503,retry_after=2"`) or in a header
 * (`x-sim: status=503,retry_after=2`); the header wins key by key. An unknown key or a value that does not fit is a 400.
 *
 * | key                | value                            | effect                                                          |
 * |--------------------|----------------------------------|-----------------------------------------------------------------|
 * | `model`            | model name                       | which model answers; without it the name of the request         |
 * | `times`            | n                                | only the first n calls with this very text behave so            |
 * | `tag`              | anything                         | no effect; makes a text unique, for `times`                     |
 * | `status`           | 200-599                          | an error with this status instead of an answer                  |
 * | `code`             | word                             | `error.code` of that error, or of the `failed`/`error` ending   |
 * | `body`             | json, html, empty, array, text   | what the body of that error is (default json)                   |
 * | `retry_after`      | seconds                          | `retry-after` header of that error                              |
 * | `retry_after_ms`   | milliseconds                     | `retry-after-ms` header of that error                           |
 * | `should_retry`     | true, false                      | `x-should-retry` header of that error                           |
 * | `redirect`         | location, or nothing             | 307 with this location (default `/v1/models`)                   |
 * | `echo`             | flag                             | answers with the received head, and SHA-256 and base64 of the body |
 * | `delay`            | milliseconds                     | waits before the status line                                    |
 * | `first`            | milliseconds                     | stream: waits between the headers and the first event           |
 * | `tokens`           | n                                | exactly n deltas (output tokens)                                |
 * | `tps`              | tokens per second                | pace of generation; without it everything at once               |
 * | `huge`             | bytes                            | the first delta is this long                                    |
 * | `tool`             | flag                             | calls the first function tool of the request                    |
 * | `ending`           | completed, incomplete, failed, error | how the generation ends                                     |
 * | `reason`           | word                             | `incomplete_details.reason` of that ending                      |
 * | `end_after`        | n                                | stream: ends cleanly after n events, without a terminal event   |
 * | `stall_after`      | n                                | stream: says nothing more after n events, for ever              |
 * | `reset`            | n, or `head`                     | destroys the socket after n body bytes, or before the head      |
 * | `garbage`          | flag                             | 200 with a body that is not JSON, or broken server-sent events  |
 * | `usage`            | null, missing, negative, fractional, absurd, text | spoils the usage object                        |
 * | `input`            | n                                | input tokens, instead of counting                               |
 * | `cached`           | n                                | cached input tokens                                             |
 * | `cache_write`      | n                                | cache write tokens                                              |
 * | `reasoning`        | n                                | reasoning tokens, on top of the deltas, inside output tokens    |
 * | `web_search`       | n                                | billable searches in `tool_usage`                               |
 * | `tier`             | word                             | the `service_tier` reported                                     |
 * | `background_ms`    | milliseconds                     | how long a background response takes (default 40)               |
 * | `eol`              | lf, cr, crlf                     | stream: line endings                                            |
 * | `no_event_lines`   | flag                             | stream: `data:` lines only                                      |
 * | `comments`         | n                                | stream: `: ping` before every nth event                         |
 * | `keepalive`        | n                                | stream: a `keepalive` event before every nth delta              |
 * | `done`             | flag                             | stream: `data: [DONE]` at the end                               |
 * | `chunk`            | bytes                            | every body is written in pieces of this size, one by one        |
 * | `gzip`             | flag                             | a JSON answer is compressed                                     |
 * | `content_type`     | media type                       | says this instead of the true one                               |
 */
const KEYS = {
  model: text,
  times: whole,
  tag: text,
  status: statusCode,
  code: text,
  body: oneOf('json', 'html', 'empty', 'array', 'text'),
  retry_after: text,
  retry_after_ms: text,
  should_retry: oneOf('true', 'false'),
  redirect: (value: string) => (value === '' ? '/v1/models' : value),
  echo: flag,
  delay: whole,
  first: whole,
  tokens: whole,
  tps: whole,
  huge: whole,
  tool: flag,
  ending: oneOf('completed', 'incomplete', 'failed', 'error'),
  reason: text,
  end_after: whole,
  stall_after: whole,
  reset: (value: string) => (value === 'head' ? ('head' as const) : whole(value)),
  garbage: flag,
  usage: oneOf('null', 'missing', 'negative', 'fractional', 'absurd', 'text'),
  input: whole,
  cached: whole,
  cache_write: whole,
  reasoning: whole,
  web_search: whole,
  tier: text,
  background_ms: whole,
  eol: oneOf('lf', 'cr', 'crlf'),
  no_event_lines: flag,
  comments: positive,
  keepalive: positive,
  done: flag,
  chunk: positive,
  gzip: flag,
  content_type: text,
}

type Keys = typeof KEYS
export type Behaviour = { readonly [K in keyof Keys]?: NonNullable<ReturnType<Keys[K]>> }

/** What a request gets that asks for nothing. */
export const ORDINARY: Behaviour = Object.freeze({})

/** @throws ApiError 400 naming the part that was not understood. */
function parseBehaviour(spec: string): Behaviour {
  const behaviour: Record<string, unknown> = {}
  for (const part of spec.split(',')) {
    if (part === '') continue
    const equals = part.indexOf('=')
    const key = (equals < 0 ? part : part.slice(0, equals)).trim()
    const value = equals < 0 ? '' : part.slice(equals + 1).trim()
    const parsed = Object.hasOwn(KEYS, key) ? KEYS[key as keyof Keys](value) : undefined
    if (parsed === undefined) {
      throw new ApiError(400, `The simulator does not know the behaviour '${part}'.`, { code: 'unknown_behaviour' })
    }
    behaviour[key] = parsed
  }
  return behaviour
}

/**
 * The behaviour that a model name and an `x-sim` header ask for.
 * @param met How often each text with `times` was met; counts this time.
 */
export function behaviourOf(met: Map<string, number>, header: unknown, model: unknown): Behaviour {
  const inModel = specInModel(model)
  if (header === undefined && inModel === '') return ORDINARY
  // Of a key given twice the later value counts.
  const spec = `${inModel},${header ?? ''}`
  const behaviour = parseBehaviour(spec)
  if (behaviour.times === undefined) return behaviour
  const before = met.get(spec) ?? 0
  met.set(spec, before + 1)
  if (before < behaviour.times) return behaviour
  return behaviour.model === undefined ? ORDINARY : { model: behaviour.model }
}

/** The behaviour text within a model name: what follows `sim:`, and `tool` for the model `sim-tool`. */
function specInModel(model: unknown): string {
  if (typeof model !== 'string' || !model.startsWith('sim')) return ''
  if (model === 'sim-tool') return 'tool'
  return model.startsWith('sim:') ? model.slice(4) : ''
}

function text(value: string): string | undefined {
  return value === '' ? undefined : value
}

function whole(value: string): number | undefined {
  return /^\d{1,15}$/.test(value) ? Number(value) : undefined
}

function positive(value: string): number | undefined {
  return value === '' ? 1 : whole(value) || undefined
}

function statusCode(value: string): number | undefined {
  return /^[2-5]\d\d$/.test(value) ? Number(value) : undefined
}

function flag(value: string): true | undefined {
  return value === '' || value === '1' || value === 'true' ? true : undefined
}

function oneOf<const T extends string>(...words: T[]): (value: string) => T | undefined {
  return (value) => words.find((word) => word === value)
}
