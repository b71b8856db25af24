import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

/** The real server as a process of its own, which a test may kill. */
export interface ServerProcess {
  url: string
  child: ChildProcess
  /** Log lines so far, parsed. */
  log: Record<string, unknown>[]
  kill(signal: NodeJS.Signals): Promise<number | null>
}

/** Starts `src/main.ts` and waits until it listens. */
export async function startServerProcess(env: Record<string, string>, logLevel = 'info'): Promise<ServerProcess> {
  const main = join(import.meta.dirname, '../../src/main.ts')
  const child = spawn(process.execPath, [main], {
    env: { PATH: process.env.PATH, HOST: '127.0.0.1', PORT: '0', DRAIN_DELAY: '0.1', ...env, LOG_LEVEL: logLevel },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const exited = once(child, 'exit')
  const log: Record<string, unknown>[] = []
  let errors = ''
  child.stderr.on('data', (chunk: Buffer) => {
    errors += chunk
  })
  const port = await new Promise<number>((resolve, reject) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      // A process that is killed may leave half a line.
      if (!line.endsWith('}')) return
      const entry = JSON.parse(line) as Record<string, unknown>
      log.push(entry)
      if (entry.msg === 'listening') resolve(Number(entry.port))
    })
    exited.then(() => reject(new Error(`The server ended before it listened: ${errors}`)))
  })
  return {
    url: `http://127.0.0.1:${port}`,
    child,
    log,
    async kill(signal) {
      child.kill(signal)
      await exited
      return child.exitCode
    },
  }
}
