import { once } from 'node:events'
import { parseArgs } from 'node:util'
import { startSimulator } from './server.ts'

const HELP = `Starts a simulated OpenAI. Any key works that does not contain "invalid".

  --port <n>       default 4020; 0 takes a free one
  --host <name>    default 127.0.0.1
  --ledger <file>  appends every call as a line of JSON`

/** Runs until SIGINT or SIGTERM. */
export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      port: { type: 'string', default: '4020' },
      host: { type: 'string', default: '127.0.0.1' },
      ledger: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help) {
    console.log(HELP)
    return
  }
  const port = Number(values.port)
  if (!Number.isInteger(port) || port < 0 || port > 65_535) throw new Error(`--port ${values.port} is not a port.`)
  await using simulator = await startSimulator({
    port,
    host: values.host,
    ...(values.ledger === undefined ? undefined : { ledgerFile: values.ledger }),
  })
  console.log(`A simulated OpenAI listens at ${simulator.url}`)
  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')])
}

if (import.meta.main) await run(process.argv.slice(2))
