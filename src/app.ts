import type { Hono, Context as HonoContext } from 'hono'
import { HTTPException } from 'hono/http-exception'
import { analyticsRoutes } from './analytics/routes.ts'
import { apiKeyRoutes } from './api-keys/routes.ts'
import { newRoutes } from './auth/route-env.ts'
import { contentRoutes } from './content/routes.ts'
import type { Context } from './context.ts'
import { erasureRoutes } from './erasure/routes.ts'
import { AppError, toErrorBody } from './errors.ts'
import { healthRoutes, SERVICE_NAME } from './health/routes.ts'
import { docsPage } from './http/docs-page.ts'
import { methodsAt } from './http/openapi.ts'
import { recordOf } from './http/request-record.ts'
import { personaDefaultRoutes } from './personas/default-routes.ts'
import { personaRoutes } from './personas/routes.ts'
import { personaVersionRoutes } from './personas/version-routes.ts'
import { ratingHistoryRoutes, ratingRoutes } from './ratings/routes.ts'
import { metricsRoutes } from './telemetry/routes.ts'
import { userRoutes } from './users/routes.ts'
import { VERSION } from './version.ts'

/** `client`: what applications call. `admin`: what administers an organization, and the documentation. */
export type Surface = 'client' | 'admin'

/** The control plane, as one function from Request to Response. */
export function createApp(context: Context, surfaces: readonly Surface[]): Hono {
  const routes = newRoutes()
  routes.openAPIRegistry.registerComponent('securitySchemes', 'bearer', {
    type: 'http',
    scheme: 'bearer',
    description: "An organization's token; for applications also a synthetic key.",
  })
  routes.use('*', async (c, next) => {
    await next()
    c.header('x-content-type-options', 'nosniff')
    if (c.req.path.startsWith('/v1/')) c.header('cache-control', 'no-store')
  })
  routes.route('/', healthRoutes(context))
  routes.use('/v1/*', async (c, next) => {
    const caller = await context.authenticator.authenticate(c.req.header('authorization'))
    const record = recordOf(c.env)
    if (record) record.organizationId = caller.organizationId
    c.set('caller', caller)
    await next()
  })
  if (surfaces.includes('client')) routes.route('/', ratingRoutes(context))
  if (surfaces.includes('admin')) {
    routes.route('/', userRoutes(context))
    routes.route('/', erasureRoutes(context))
    routes.route('/', apiKeyRoutes(context))
    routes.route('/', personaRoutes(context))
    routes.route('/', personaVersionRoutes(context))
    routes.route('/', personaDefaultRoutes(context))
    routes.route('/', contentRoutes(context))
    routes.route('/', ratingHistoryRoutes(context))
    routes.route('/', analyticsRoutes(context))
    const document = () =>
      routes.getOpenAPI31Document({
        openapi: '3.1.0',
        info: { title: SERVICE_NAME, version: VERSION, description: DESCRIPTION },
      })
    const { metricsToken: token } = context.config
    routes.route(
      '/',
      metricsRoutes({ render: () => context.metrics.registry.render(), token, isApart: !surfaces.includes('client') }),
    )
    routes.get('/openapi.json', (c) => c.json(document()))
    routes.get('/docs', (c) => c.html(docsPage(document()), 200, DOCS_HEADERS))
  }
  routes.notFound((c) => {
    const methods = methodsAt(routes, c.req.path).join(', ')
    if (methods !== '') {
      c.header('allow', methods)
      return answerError(c, new AppError('method_not_allowed', `Only ${methods} is possible here.`))
    }
    const target = `${c.req.method} ${c.req.path.slice(0, 128)}`
    return answerError(c, new AppError('not_found', `There is nothing at ${target}. See /docs.`))
  })
  routes.onError((error, c) => {
    const known = toAppError(error)
    if (!known) context.log.error({ err: error, path: c.req.path.slice(0, 128) }, 'a request failed unexpectedly')
    return answerError(
      c,
      known ?? new AppError('internal_error', 'Something went wrong in the proxy; its log says what.'),
    )
  })
  return routes as unknown as Hono
}

function answerError(c: HonoContext, error: AppError): Response {
  const record = recordOf(c.env)
  if (record) record.errorCode = error.code
  if (error.status === 401) c.header('www-authenticate', 'Bearer')
  if (error.retryAfterSeconds !== undefined) c.header('retry-after', String(error.retryAfterSeconds))
  return c.json(toErrorBody(error), error.status as 400)
}

const DESCRIPTION =
  "Administers one organization: its users, API keys and personas. Inference itself is OpenAI's API at `POST /v1/responses`, unchanged."

/** The page is one document without scripts. */
const DOCS_HEADERS = {
  'content-security-policy':
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}

function toAppError(error: Error): AppError | undefined {
  if (error instanceof AppError) return error
  if (!(error instanceof HTTPException)) return undefined
  // The framework's own refusals; their text could quote the body.
  if (error.status === 413) return new AppError('body_too_large', 'The body is too large.')
  return new AppError('invalid_json', 'The body is not valid JSON.')
}
