import { createHash, timingSafeEqual } from 'node:crypto'
import { Hono } from 'hono'
import { AppError } from '../errors.ts'
import type { Secret } from '../secret.ts'

/**
 * `/metrics`. Figures of all organizations together are the operator's: on a listener that applications reach, only whoever has the
 * token of `METRICS_TOKEN` sees them, and without one there is nothing to see.
 */
export function metricsRoutes(deps: { render: () => string; token: Secret | undefined; isApart: boolean }): Hono {
  const routes = new Hono()
  if (!deps.token && !deps.isApart) return routes
  return routes.get('/metrics', (c) => {
    const { token } = deps
    if (token && !isEqual(c.req.header('authorization'), `Bearer ${token.reveal()}`)) {
      throw new AppError('invalid_authentication', 'Metrics need "Authorization: Bearer <METRICS_TOKEN>".')
    }
    return c.body(deps.render(), 200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' })
  })
}

/** Takes as long whatever differs. */
function isEqual(given: string | undefined, expected: string): boolean {
  return given !== undefined && timingSafeEqual(digest(given), digest(expected))
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
