import type { Call } from './call.ts'
import type { Objects } from './objects.ts'
import { notJson } from './request-body.ts'

/** What every endpoint may use. */
export type Simulated = {
  objects: Objects
  /** The simulator's own base URL: a batch calls its lines there. */
  url: string
}

export type Handler = (simulated: Simulated, call: Call) => Promise<void> | undefined

/** By method and path below `/v1`; `{name}` stands for a path segment that `param` reads. */
export type Routes = Record<`${'GET' | 'POST' | 'DELETE'} /${string}`, Handler>

/** An endpoint that takes nothing but a JSON object. */
export function json(handler: Handler): Handler {
  return (simulated, call) => {
    if (!call.isJson) throw notJson()
    return handler(simulated, call)
  }
}

export function param(call: Call, name: string): string {
  return call.params[name] ?? ''
}
