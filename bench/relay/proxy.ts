import { monitorEventLoopDelay } from 'node:perf_hooks'
import { createApiKey } from '../../src/api-keys/service.ts'
import { asAdministrator, OPERATOR } from '../../src/auth/caller.ts'
import { readConfig } from '../../src/config.ts'
import { updatePolicies } from '../../src/organizations/policies.ts'
import { createOrganization } from '../../src/organizations/service.ts'
import { setDefault } from '../../src/personas/defaults.ts'
import { createPersona } from '../../src/personas/service.ts'
import { Secret } from '../../src/secret.ts'
import { serve } from '../../src/serve.ts'
import { createToken } from '../../src/tokens/service.ts'

/** The whole server as `npm start` runs it, with one organization, and what a measurement asks of its inside. */
const [dataDirectory = '', upstreamPort = ''] = process.argv.slice(2)
const config = readConfig({
  HOST: '127.0.0.1',
  PORT: '0',
  DATA_DIR: dataDirectory,
  OPENAI_API_BASE_URL: `http://127.0.0.1:${upstreamPort}/v1`,
  MAX_CONCURRENT_REQUESTS: '20000',
  LOG_LEVEL: 'info',
})
const server = await serve(config)
const { context } = server
const { id } = await createOrganization(context, OPERATOR, { name: 'Bench' })
const admin = asAdministrator(OPERATOR, id)
await createApiKey(context, admin, { upstreamKey: new Secret('sk-upstream-bench') })
const persona = await createPersona(context, admin, {
  name: 'Bench',
  content: 'You answer in one sentence. '.repeat(20),
})
await setDefault(context, admin, { kind: 'organization' }, persona.id)
const { jwt } = await createToken(context, admin, { days: 1 })
await updatePolicies(context, admin, { content: 'none' })
const delay = monitorEventLoopDelay({ resolution: 5 })
delay.enable()

process.on('message', (message: 'reset' | 'loop-delay' | 'stop') => {
  if (message === 'reset') delay.reset()
  else if (message === 'loop-delay') process.send?.({ loopDelayP99Ms: delay.percentile(99) / 1e6 })
  else server.stop().then(() => process.exit(0))
})
process.on('disconnect', () => process.exit(0))
process.send?.({ port: server.port, token: jwt.reveal() })
