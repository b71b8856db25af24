import type { InstructionsForm } from './instructions.ts'

/** A relayed OpenAI endpoint. What is not in the table below is not relayed. */
export interface Endpoint {
  /** The name under which its calls are recorded. */
  name: string
  method: 'GET' | 'POST' | 'DELETE'
  /** Below the base URL; `{response_id}` stands for an id that the caller must own. */
  path: string
  /** `json`: one object, read for the ids it refers to. `none`: whatever comes is not read and not sent. */
  body: 'json' | 'none'
  /** `responses`: each call is an attempt with a usage. `none`: it costs nothing and is not recorded. */
  meter: 'responses' | 'none'
  /** Where its bodies take instructions, and a persona its place. */
  instructions?: InstructionsForm
}

/** The path the client calls is `/v1` and the path below. */
export const ENDPOINTS: readonly Endpoint[] = [
  {
    name: 'responses.create',
    method: 'POST',
    path: '/responses',
    body: 'json',
    meter: 'responses',
    instructions: 'responses',
  },
  { name: 'responses.retrieve', method: 'GET', path: '/responses/{response_id}', body: 'none', meter: 'none' },
  { name: 'responses.delete', method: 'DELETE', path: '/responses/{response_id}', body: 'none', meter: 'none' },
  { name: 'responses.cancel', method: 'POST', path: '/responses/{response_id}/cancel', body: 'none', meter: 'none' },
  {
    name: 'responses.input_items',
    method: 'GET',
    path: '/responses/{response_id}/input_items',
    body: 'none',
    meter: 'none',
  },
]

/** What a request's path matched, whatever its method. */
export interface EndpointMatch {
  endpoints: readonly Endpoint[]
  responseId: string | undefined
}

/** The endpoints at exactly this path: encodings, doubled slashes and dots match nothing. */
export function findEndpoints(path: string): EndpointMatch | undefined {
  for (const { pattern, endpoints } of PATTERNS) {
    const found = pattern.exec(path)
    if (found) return { endpoints, responseId: found.groups?.response_id }
  }
  return undefined
}

/** Built from the table and the id that was checked, never copied from the request. */
export function upstreamPath(endpoint: Endpoint, responseId: string | undefined): string {
  return endpoint.path.replace('{response_id}', responseId ?? '')
}

const PATTERNS = [...Map.groupBy(ENDPOINTS, ({ path }) => path)].map(([path, endpoints]) => ({
  pattern: new RegExp(`^/v1${path.replace('{response_id}', '(?<response_id>resp_[A-Za-z0-9_-]{1,250})')}$`),
  endpoints,
}))
