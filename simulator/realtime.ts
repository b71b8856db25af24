import { randomBytes } from 'node:crypto'
import { newId, sendJson } from './call.ts'
import { shareProject } from './credentials.ts'
import { json, type Routes } from './handler.ts'
import { now } from './objects.ts'

const LIFETIME_SECONDS = 600

/** `POST /v1/realtime/client_secrets`: a short-lived key that a browser may hold. It is as good as the key that made it. */
export const realtimeRoutes: Routes = {
  'POST /realtime/client_secrets': json((_, call) => {
    const value = `ek_${randomBytes(16).toString('hex')}`
    shareProject(value, call.project)
    const { session = {}, expires_after } = call.body as { session?: object; expires_after?: { seconds?: number } }
    const expires_at = now() + (expires_after?.seconds ?? LIFETIME_SECONDS)
    return sendJson(call, 200, {
      value,
      expires_at,
      session: { id: newId('sess'), object: 'realtime.session', type: 'realtime', model: 'gpt-realtime-2', ...session },
    })
  }),
}
