import { createApp } from './app.ts'
import type { Config } from './config.ts'
import { type Context, openContext } from './context.ts'
import { AppError } from './errors.ts'
import { Capacity } from './proxy/capacity.ts'
import { ENDPOINTS, type Endpoint, openTable } from './proxy/endpoints.ts'
import { createRelay } from './proxy/relay.ts'
import { createRetrieveEnd } from './proxy/retrieve-end.ts'
import { openUpstream } from './proxy/upstream.ts'
import { type HttpServer, startServer } from './server.ts'
import { observeGauges } from './telemetry/gauges.ts'
import { openOtlpExporter, type SpanExporter } from './telemetry/otlp.ts'
import { watchProcess } from './telemetry/process-load.ts'
import { openTracer } from './telemetry/tracer.ts'

/** A whole running server. */
export interface RunningServer {
  readonly port: number
  readonly adminPort: number | undefined
  readonly context: Context
  /**
   * Stops: not ready at once, requests under way finish within the deadline, what they did is recorded, everything is closed.
   * Called a second time it cuts what is left short, and loses no record either.
   * @param drainDelayMs for how long it goes on taking requests, until whoever sends them has noticed that it is not ready.
   */
  stop(drainDelayMs?: number): Promise<void>
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
  const { log, metrics } = context
  const load = stack.use(watchProcess())
  const capacity = new Capacity(config, load)
  const relay = createRelay({ ...context, upstream, capacity })
  const spans = openExporter(config, context)
  if (spans) stack.use(spans)
  const tracer = spans && openTracer({ ratio: config.tracesRatio, onSpan: (span) => spans.add(span) })
  observeGauges(metrics.registry, { ...context, relay, capacity, spans, load })
  const { host, port, adminPort } = config
  const isShared = adminPort === undefined
  const listeners: HttpServer[] = []
  const main = await startServer({
    config,
    log,
    host,
    port,
    relay,
    metrics,
    tracer,
    findEndpoints: openTable(endpoints),
    app: createApp(context, isShared ? ['client', 'admin'] : ['client']),
  })
  listeners.push(main)
  stack.defer(() => main.closeAllConnections())
  const admin = isShared
    ? undefined
    : await startServer({
        config,
        log,
        host,
        port: adminPort,
        metrics,
        tracer,
        app: createApp(context, ['admin']),
      })
  if (admin) listeners.push(admin)
  log.info({ host, port: main.port, admin_port: admin?.port }, 'listening')

  const owned = stack.move()
  const noticed = Promise.withResolvers<void>()
  const deadline = Promise.withResolvers<void>()
  let stopping: Promise<void> | undefined

  async function stopOnce(drainDelayMs: number): Promise<void> {
    isStopping = true
    log.info({ in_flight: relay.inFlightCount }, 'stopping: requests under way may finish')
    for (const listener of listeners) listener.beginStopping()
    const drained = setTimeout(noticed.resolve, drainDelayMs)
    await Promise.race([noticed.promise, deadline.promise])
    clearTimeout(drained)
    await Promise.all(listeners.map((listener) => listener.stopAccepting()))
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
    await context.logOutput.flush()
  }

  return {
    port: main.port,
    adminPort: admin?.port,
    context,
    stop(drainDelayMs = 0) {
      if (stopping) deadline.resolve()
      stopping ??= stopOnce(drainDelayMs)
      return stopping
    },
  }
}

const GRACE_MS = 500

/** Nothing when no collector is named. */
function openExporter(config: Config, { log, replicaId }: Context): SpanExporter | undefined {
  const { otlpEndpoint: endpoint, otlpHeaders: headers, otelServiceName: serviceName } = config
  if (!endpoint) return undefined
  const onFault = (error: Error) => log.warn({ err: error }, 'the collector did not take spans; they are dropped')
  return openOtlpExporter({ endpoint, headers, serviceName, instanceId: replicaId, onFault })
}
