import { once } from 'node:events'
import { createServer } from 'node:net'
import { join } from 'node:path'
import type { Command } from 'commander'
import { createApiKey } from '../../api-keys/service.ts'
import { asAdministrator, type Caller, OPERATOR } from '../../auth/caller.ts'
import { readConfig } from '../../config.ts'
import type { Context } from '../../context.ts'
import { AppError } from '../../errors.ts'
import { listRequests } from '../../ledger/service.ts'
import { loadEnvironment } from '../../load-environment.ts'
import { createOrganization, listOrganizations } from '../../organizations/service.ts'
import { Secret } from '../../secret.ts'
import type { RunningServer } from '../../serve.ts'
import { createToken } from '../../tokens/service.ts'
import { createUser } from '../../users/service.ts'
import { addCommand } from '../command.ts'
import { pasteableLines } from '../demo/pasteable-lines.ts'
import { streamAnswer } from '../demo/stream-answer.ts'
import { type OutputOptions, outputClosed, printProgress, printResult, printText } from '../output.ts'
import {
  count,
  formatCost,
  milliseconds,
  type NamedRequest,
  nameRequests,
  toRequestDocument,
} from '../recorded-requests.ts'

export function addDemoCommand(program: Command): void {
  addCommand(
    program,
    'demo',
    'show the whole thing with a simulated OpenAI: no account, no cost, no configuration',
    'demo --port 8000',
  )
    .option('--port <n>', 'where the proxy listens, or on the next free port; 0 takes any', '8000')
    .option('--host <name>', 'on which address', '127.0.0.1')
    .option('--once', 'stop after the answer and its record')
    .action(async (options: DemoOptions) => {
      const stopping = stopRequested()
      try {
        await demonstrate(options, stopping)
      } catch (error) {
        // Whatever was under way when the demo was told to stop failed because of that.
        if (!stopping.aborted) throw error
      }
    })
}

interface DemoOptions extends OutputOptions {
  port: string
  host: string
  once?: boolean
}

async function demonstrate(options: DemoOptions, stopping: AbortSignal): Promise<void> {
  // With --json standard output is for the document alone.
  const write = options.json ? printProgress : printText
  const say = (line: string) => write(`${line}\n`)
  const port = await findFreePort(Number(options.port), options.host)
  // Loaded only now: no other command should wait for a whole server to load.
  const [{ startSimulator }, { serve }] = await Promise.all([
    import('../../../simulator/server.ts'),
    import('../../serve.ts'),
  ])
  await using simulator = await startSimulator()
  say('')
  if (port !== Number(options.port) && options.port !== '0') say(`Port ${options.port} is taken: using ${port}.`)

  await using stack = new AsyncDisposableStack()
  const server = await step(write, 'Starting the database, the proxy and a simulated OpenAI', stopping, async () => {
    const running = await serve(readDemoConfig({ port, host: options.host, openaiBaseUrl: simulator.url }))
    stack.defer(() => running.stop())
    return running
  })
  const access = await step(write, 'Making an organization, a user, an API key and a token', stopping, () =>
    grantAccess(server.context),
  )
  const url = `http://${options.host.includes(':') ? `[${options.host}]` : options.host}:${server.port}`

  say('')
  say(`POST ${url}/v1/responses  model gpt-4o-mini, stream, user ${USER}`)
  say(`  > ${QUESTION}`)
  write('  < ')
  const requestId = await streamAnswer({ url, key: access.syntheticKey, input: QUESTION, signal: stopping, write })
  say('')
  const request = await findRecord(server, access.caller, requestId)
  if (options.json) {
    printResult(options, { url, ...toDocument(access), request: toRequestDocument(request) }, [])
  } else {
    for (const line of ['', 'What was recorded of it:', ...formatRecord(request)]) say(line)
  }
  if (options.once) return

  for (const line of pasteableLines({ ...access, url, psqlCommand: server.context.psqlCommand })) say(line)
  say('Running until Ctrl-C.')
  if (!stopping.aborted) await once(stopping, 'abort')
  say('')
  await step(write, 'Stopping', undefined, () => stack.disposeAsync())
}

/** A database and secrets of its own, whatever is configured here: real data is not touched. */
function readDemoConfig(demo: { port: number; host: string; openaiBaseUrl: string }) {
  const { DATA_DIR } = loadEnvironment()
  return readConfig({
    DATA_DIR: join(DATA_DIR?.trim() || 'data', 'demo'),
    HOST: demo.host,
    PORT: String(demo.port),
    OPENAI_API_BASE_URL: demo.openaiBaseUrl,
    LOG_LEVEL: 'silent',
    SHUTDOWN_TIMEOUT: '5',
  })
}

interface Access {
  caller: Caller
  syntheticKey: string
  token: string
}

/** The organization and the user of the last demo; a key and a token anew, because neither can be shown twice. */
async function grantAccess(context: Context): Promise<Access> {
  const known = (await listOrganizations(context, OPERATOR)).find(({ name }) => name === ORGANIZATION)
  const { id } = known ?? (await createOrganization(context, OPERATOR, { name: ORGANIZATION }))
  const caller = asAdministrator(OPERATOR, id)
  const user = await createUser(context, caller, { externalId: USER })
  const { syntheticKey } = await createApiKey(context, caller, {
    upstreamKey: new Secret('sk-simulated-openai-key'),
    userId: user.id,
    name: 'Demo Key',
  })
  const { jwt } = await createToken(context, caller, { name: 'Demo Token', days: 7 })
  return { caller, syntheticKey: syntheticKey.reveal(), token: jwt.reveal() }
}

const ORGANIZATION = 'Demo Organization'
const USER = 'demo-user'
const QUESTION = 'What is the capital of France?'

async function findRecord({ context }: RunningServer, caller: Caller, requestId: string): Promise<NamedRequest> {
  await context.ledger.flush(AbortSignal.timeout(RECORD_TIMEOUT_MS))
  const rows = await listRequests(context, caller, 100)
  const [request] = await nameRequests(
    context,
    caller,
    rows.filter((row) => row.request_id === requestId),
  )
  if (!request) throw new AppError('internal_error', 'The request was not recorded.')
  return request
}

const RECORD_TIMEOUT_MS = 10_000

function formatRecord({ row, externalUserId, keyName }: NamedRequest): string[] {
  const fields: [string, string][] = [
    ['request', row.request_id],
    ['user', externalUserId ?? '-'],
    ['key', keyName ?? '-'],
    ['model', row.model_used ?? '-'],
    ['status', row.status],
    ['tokens', `${count(row.input_tokens)} in (${count(row.cached_tokens)} cached), ${count(row.output_tokens)} out`],
    ['cost', formatCost(row.cost_nano_usd)],
    ['time', `${milliseconds(row.first_byte_ms)} to the first byte, ${milliseconds(row.duration_ms)} in all`],
  ]
  return fields.map(([label, value]) => `  ${label.padEnd(8)} ${value}`)
}

function toDocument({ caller, syntheticKey, token }: Access) {
  return { organization_id: caller.organizationId, user_id: USER, synthetic_key: syntheticKey, token }
}

/** Aborted by Ctrl-C, SIGTERM, a closed terminal, or a reader of standard output that went away. */
function stopRequested(): AbortSignal {
  const controller = new AbortController()
  const stop = () => controller.abort()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop)
  outputClosed.then(stop)
  return controller.signal
}

async function step<T>(
  write: (text: string) => void,
  what: string,
  stopping: AbortSignal | undefined,
  work: () => Promise<T>,
): Promise<T> {
  write(`${what} ... `)
  const startedAt = performance.now()
  const result = await work()
  stopping?.throwIfAborted()
  write(`done in ${((performance.now() - startedAt) / 1000).toFixed(1)} s\n`)
  return result
}

/** This port or one of the next; 0 stays 0, which is any. */
async function findFreePort(wanted: number, host: string): Promise<number> {
  if (!Number.isInteger(wanted) || wanted < 0 || wanted > 65_535) {
    throw new AppError('invalid_request', '--port is a whole number from 0 to 65535.')
  }
  if (wanted === 0) return 0
  for (let port = wanted; port < Math.min(wanted + PORTS_TRIED, 65_536); port += 1) {
    if (await isFree(port, host)) return port
  }
  throw new AppError('conflict', `Port ${wanted} and the next ${PORTS_TRIED - 1} are taken: choose one with --port.`)
}

const PORTS_TRIED = 20

async function isFree(port: number, host: string): Promise<boolean> {
  const probe = createServer()
  try {
    probe.listen(port, host)
    await once(probe, 'listening')
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EADDRINUSE') return false
    throw error
  } finally {
    probe.close()
  }
}
