import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fixed, median, type Part } from './parts.ts'

/** From the command to the first "ready", with a database that has been there before. */
export const startUp: Part = async ({ rounds }) => {
  const directory = await mkdtemp(join(tmpdir(), 'openai-proxy-bench-'))
  const first = await start(directory)
  const again: number[] = []
  for (let round = 0; round < rounds; round += 1) again.push(await start(directory))
  await rm(directory, { recursive: true, force: true, maxRetries: 10 })
  const rows = [
    { start: 'first, which makes the database', 'ready after ms': fixed(first) },
    { start: 'later', 'ready after ms': fixed(median(again)) },
  ]
  return { title: 'Start to ready, embedded database', rows }
}

async function start(directory: string): Promise<number> {
  const startedAt = performance.now()
  const server = spawn(process.execPath, [join(import.meta.dirname, '../../src/main.ts')], {
    env: { ...process.env, HOST: '127.0.0.1', PORT: '0', DATA_DIR: directory, LOG_LEVEL: 'info' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const port = await portOf(server)
  while ((await fetch(`http://127.0.0.1:${port}/readyz`)).status !== 200);
  const readyMs = performance.now() - startedAt
  server.kill('SIGTERM')
  await once(server, 'exit')
  return readyMs
}

/** As its log says. */
async function portOf(server: ChildProcess): Promise<number> {
  let log = ''
  for await (const piece of server.stdout ?? []) {
    log += piece
    const port = /"port":(\d+)/.exec(log)?.[1]
    if (port !== undefined) {
      server.stdout?.resume()
      return Number(port)
    }
  }
  throw new Error('The server ended before it listened.')
}
