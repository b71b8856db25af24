import { ConfigError, readConfig } from './config.ts'
import { explainStartFailure } from './explain-failure.ts'
import { loadEnvironment } from './load-environment.ts'
import { serve } from './serve.ts'

/** The server: configuration, context, listen, and drain on SIGTERM. */
try {
  // Both can hold keys: a report by its environment, a snapshot by its heap.
  process.report.reportOnFatalError = false
  process.report.excludeEnv = true
  const config = readConfig(loadEnvironment())
  const server = await serve(config)
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      // Who asks by keyboard has no load balancer that must notice first.
      server.stop(signal === 'SIGTERM' ? config.drainDelayMs : 0).then(
        () => process.exit(0),
        async (error: unknown) => {
          server.context.log.fatal({ err: error }, 'stopping failed')
          await server.context.logOutput.flush()
          process.exit(1)
        },
      )
    })
  }
  process.on('uncaughtException', (error) => {
    server.context.log.fatal({ err: error }, 'an unexpected failure; stopping')
    server.stop().finally(() => process.exit(1))
    server.stop()
  })
} catch (error) {
  process.stderr.write(`${explainStartFailure(error)}\n`)
  process.exitCode = error instanceof ConfigError ? 2 : 1
}
