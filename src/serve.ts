import { createApp } from './app.ts'
import type { Config } from './config.ts'
import { type Context, openContext } from './context.ts'
import { AppError } from './errors.ts'
import { ENDPOINTS, type Endpoint, openTable } from './proxy/endpoints.ts'
import { createRelay } from './proxy/relay.ts'
import { createRetrieveEnd } from './proxy/retrieve-end.ts'
import { openUpstream } from './proxy/upstream.ts'
import { type HttpServer, startServer } from './server.ts'

/** A whole running server. */
export interface RunningServer {
  readonly port: number
  readonly adminPort: number | undefined
  readonly context: Context
  /**
   * Stops: not ready at once, requests under way finish within the deadline, what they did is recorded, everything is closed.
   * Called a second time it cuts what is left short, and loses no record either.
   */
  stop(): Promise<void>
}

/** @param endpoints Another table than the one in use is for tests that plant a hole in it. */
export async function serve(config: Config, endpoints: readonly Endpoint[] = ENDPOINTS): Promise<RunningServer> {
  await using stack = new AsyncDisposableStack()
  let isStopping = false
  const upstream = stack.use(openUpstream(config))
  const context = stack.use(
    await openContext(config, {
      probeUpstream: upstream.probe,
      retrieveEnd: createRetrieveEnd(upstream),
      isStopping: () => isStopping,
    }),
  )
  const { log } = context
  const relay = createRelay({ ...context, upstream })
  const { host, port, adminPort } = config
  const isShared = adminPort === undefined
  const listeners: HttpServer[] = []
  const main = await startServer({
    config,
    log,
    host,
    port,
    relay,
    findEndpoints: openTable(endpoints),
    app: createApp(context, isShared ? ['client', 'admin'] : ['client']),
  })
  listeners.push(main)
  stack.defer(() => main.closeAllConnections())
  const admin = isShared
    ? undefined
    : await startServer({ config, log, host, port: adminPort, app: createApp(context, ['admin']) })
  if (admin) listeners.push(admin)
  log.info({ host, port: main.port, admin_port: admin?.port }, 'listening')

  const owned = stack.move()
  const deadline = Promise.withResolvers<void>()
  let stopping: Promise<void> | undefined

  async function stopOnce(): Promise<void> {
    isStopping = true
    log.info({ in_flight: relay.inFlightCount }, 'stopping: requests under way may finish')
    for (const listener of listeners) listener.stopAccepting()
    relay.stopAccepting()
    const timer = setTimeout(deadline.resolve, config.shutdownTimeoutMs)
    const closed = Promise.all(listeners.map((listener) => listener.closed))
    await Promise.race([closed, deadline.promise])
    clearTimeout(timer)
    relay.cutAll(
      new AppError('shutting_down', 'The proxy is shutting down; send the request again.', { retryAfterSeconds: 1 }),
    )
    // A moment for the last error events to leave.
    const grace = setTimeout(() => {
      for (const listener of listeners) listener.closeAllConnections()
    }, GRACE_MS)
    await closed
    clearTimeout(grace)
    await owned.disposeAsync()
    log.info('stopped')
  }

  return {
    port: main.port,
    adminPort: admin?.port,
    context,
    stop() {
      if (stopping) deadline.resolve()
      stopping ??= stopOnce()
      return stopping
    },
  }
}

const GRACE_MS = 500
