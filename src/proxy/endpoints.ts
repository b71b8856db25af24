/** A relayed OpenAI endpoint. What is not in the table below is not relayed. */
export interface Endpoint {
  /** The name under which its calls are recorded. */
  name: string
  method: 'POST'
  /** The path the client calls. */
  path: string
  /** The path below the base URL: built from here, never copied from the request. */
  upstreamPath: string
  /** What to watch for in the answer. */
  meter: 'responses'
}

export const ENDPOINTS: readonly Endpoint[] = [
  { name: 'responses.create', method: 'POST', path: '/v1/responses', upstreamPath: '/responses', meter: 'responses' },
]

/** The endpoint at exactly this path, whatever the method: encodings, doubled slashes and dots find nothing. */
export function findEndpoints(path: string): readonly Endpoint[] {
  return BY_PATH.get(path) ?? []
}

const BY_PATH = Map.groupBy(ENDPOINTS, ({ path }) => path)
