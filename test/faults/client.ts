import { request } from 'node:http'

/** What a client saw of one answer. */
export interface Seen {
  requestId: string | undefined
  /** The terminal event, or the whole JSON, arrived. */
  sawEnd: boolean
  /** An error event, or an error status. */
  sawError: boolean
  isBroken: boolean
  status: number | undefined
  /** Why there is no whole answer, as far as this side can tell: the connection's error, or the status and code of a refusal. */
  fault?: string
}

/** Calls the relay once on a connection of its own and reads until the end, the break, or `leaveAfterBytes`. */
export function callRelay(
  url: string,
  token: string,
  body: Record<string, unknown>,
  leaveAfterBytes = Number.POSITIVE_INFINITY,
): Promise<Seen> {
  return new Promise((resolve) => {
    const seen: Seen = { requestId: undefined, sawEnd: false, sawError: false, isBroken: false, status: undefined }
    const done = () => resolve(seen)
    const outgoing = request(`${url}/v1/responses`, {
      method: 'POST',
      agent: false,
      headers: { authorization: `Bearer ${token}`, 'x-user-id': 'alice', 'content-type': 'application/json' },
    })
    outgoing.on('error', (error: Error & { code?: string }) => {
      seen.isBroken = true
      seen.fault ??= error.code ?? error.message
      done()
    })
    outgoing.on('response', (incoming) => {
      seen.requestId = incoming.headers['x-request-id'] as string
      seen.status = incoming.statusCode
      seen.sawError = (incoming.statusCode ?? 0) >= 400
      let text = ''
      let bytes = 0
      incoming.on('data', (chunk: Buffer) => {
        bytes += chunk.length
        text = (text + chunk.toString('latin1')).slice(-65_536)
        if (/event: response\.completed\ndata: [^\n]*\n\n/.test(text)) seen.sawEnd = true
        if (text.includes('event: error')) seen.sawError = true
        if (bytes >= leaveAfterBytes) outgoing.destroy()
      })
      incoming.on('end', () => {
        if (body.stream !== true && incoming.statusCode === 200) seen.sawEnd = true
        if (seen.sawError) seen.fault = `${seen.status} ${/"code": ?"(\w+)"/.exec(text)?.[1]}`
        done()
      })
      incoming.on('error', (error: Error & { code?: string }) => {
        seen.isBroken = true
        seen.fault ??= `${error.code ?? error.message} in the answer`
        done()
      })
      incoming.on('close', () => {
        // A body that stops short of its framing is broken, whatever else happened.
        if (!incoming.complete) seen.isBroken = true
        done()
      })
    })
    outgoing.end(JSON.stringify(body))
  })
}

/** A seeded random number generator (mulberry32): the same seed gives the same schedule. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
