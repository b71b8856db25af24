import { createApiKey } from '../src/api-keys/service.ts'
import { createApp } from '../src/app.ts'
import { asAdministrator, OPERATOR } from '../src/auth/caller.ts'
import { readConfig } from '../src/config.ts'
import { openContext } from '../src/context.ts'
import type { Ledger } from '../src/ledger/ledger.ts'
import { createOrganization } from '../src/organizations/service.ts'
import { Capacity } from '../src/proxy/capacity.ts'
import { createRelay } from '../src/proxy/relay.ts'
import { createRetrieveEnd } from '../src/proxy/retrieve-end.ts'
import { openUpstream } from '../src/proxy/upstream.ts'
import { Secret } from '../src/secret.ts'
import { startServer } from '../src/server.ts'
import { watchProcess } from '../src/telemetry/process-load.ts'
import { createToken } from '../src/tokens/service.ts'

/** One process, two listeners: the relay as it is, and the same relay with a ledger that records nothing. */
const [dataDirectory = '', simulatorUrl = ''] = process.argv.slice(2)
const config = readConfig({ DATA_DIR: dataDirectory, OPENAI_API_BASE_URL: simulatorUrl, LOG_LEVEL: 'silent' })
const upstream = openUpstream(config)
const context = await openContext(config, {
  probeUpstream: upstream.probe,
  retrieveEnd: createRetrieveEnd(upstream),
  isStopping: () => false,
})
const { id } = await createOrganization(context, OPERATOR, { name: 'Bench' })
const admin = asAdministrator(OPERATOR, id)
await createApiKey(context, admin, { upstreamKey: new Secret('sk-upstream-bench') })
const { jwt } = await createToken(context, admin, { days: 1 })

const nothing: Ledger = {
  ...context.ledger,
  open: () => ({ id: '', settle() {}, defer() {}, recordProgress() {} }),
}
const load = watchProcess()
const listen = (ledger: Ledger) =>
  startServer({
    config,
    log: context.log,
    host: '127.0.0.1',
    port: 0,
    app: createApp(context, ['client']),
    metrics: context.metrics,
    tracer: undefined,
    relay: createRelay({ ...context, ledger, upstream, capacity: new Capacity(config, load) }),
  })
const [on, off] = [await listen(context.ledger), await listen(nothing)]
process.send?.({ on: on.port, off: off.port, token: jwt.reveal() })
process.on('message', async () => {
  await context[Symbol.asyncDispose]()
  process.exit(0)
})
