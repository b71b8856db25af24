import { type ChildProcess, execFileSync, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectWire } from './wire-client.ts'

/** Something that stands between a client and the upstream, running in a process of its own. */
export interface RunningSystem {
  name: string
  /** What was at work in it while it was measured, and what was not. */
  does: string
  port: number
  headers: string
  pid: number
  child: ChildProcess | undefined
  stop(): Promise<void>
}

export interface SystemKind {
  name: string
  /** @returns undefined where it is not to be had on this machine. */
  start(upstreamPort: number): Promise<RunningSystem | undefined>
}

const OUR_WORK =
  'authentication, key choice, ownership, a persona, journal, ledger to Postgres, one log line a request; content policy none'

export const PROXY: SystemKind = {
  name: 'proxy',
  async start(upstreamPort) {
    const directory = await mkdtemp(join(tmpdir(), 'openai-proxy-bench-'))
    const child = fork(join(import.meta.dirname, 'proxy.ts'), [directory, String(upstreamPort)], {
      execArgv: process.env.BENCH_PROFILE ? ['--cpu-prof', '--cpu-prof-dir', process.env.BENCH_PROFILE] : [],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    const [{ port, token }] = (await once(child, 'message')) as [{ port: number; token: string }]
    pin(child.pid)
    return {
      name: 'proxy',
      does: OUR_WORK,
      port,
      headers: `authorization: Bearer ${token}\r\nx-user-id: bench\r\n`,
      pid: child.pid ?? 0,
      child,
      async stop() {
        const closed = once(child, 'exit')
        child.send('stop')
        await closed
        await rm(directory, { recursive: true, force: true, maxRetries: 10 })
      },
    }
  },
}

export const PASS_THROUGH: SystemKind = {
  name: 'pass-through',
  async start(upstreamPort) {
    const child = fork(join(import.meta.dirname, 'pass-through.ts'), [String(upstreamPort)], {
      execArgv: process.env.BENCH_PROFILE ? ['--cpu-prof', '--cpu-prof-dir', process.env.BENCH_PROFILE] : [],
    })
    const [{ port }] = (await once(child, 'message')) as [{ port: number }]
    pin(child.pid)
    return {
      ...plain('pass-through', 'nothing: node:http and undici alone', port),
      pid: child.pid ?? 0,
      child,
      stop: () => end(child),
    }
  },
}

export const NGINX: SystemKind = {
  name: 'nginx',
  async start(upstreamPort) {
    const nginx = ['/usr/sbin/nginx', '/usr/local/sbin/nginx', '/opt/homebrew/bin/nginx'].find((file) =>
      existsSync(file),
    )
    if (nginx === undefined) return undefined
    const directory = await mkdtemp(join(tmpdir(), 'bench-nginx-'))
    const port = await freePort()
    await writeFile(join(directory, 'nginx.conf'), nginxConfiguration(port, upstreamPort))
    const child = spawn(
      nginx,
      ['-p', directory, '-c', 'nginx.conf', '-e', 'error.log', '-g', 'daemon off; master_process off;'],
      {
        stdio: 'ignore',
      },
    )
    await untilOpen(port)
    pin(child.pid)
    return {
      ...plain('nginx', 'nothing: one worker, buffering off, no access log', port),
      pid: child.pid ?? 0,
      child,
      async stop() {
        await end(child)
        await rm(directory, { recursive: true, force: true })
      },
    }
  },
}

/** From the registry, installed once into a folder of its own: it is measured, not depended on. */
export const PORTKEY: SystemKind = {
  name: 'portkey',
  async start(upstreamPort) {
    const directory = join(tmpdir(), 'openai-proxy-bench-portkey')
    const entry = join(directory, 'node_modules/@portkey-ai/gateway/build/start-server.js')
    if (!existsSync(entry)) await installPortkey(directory)
    if (!existsSync(entry)) return undefined
    const port = await freePort()
    const child = spawn(process.execPath, [entry, `--port=${port}`, '--headless'], { cwd: directory, stdio: 'ignore' })
    await untilOpen(port)
    pin(child.pid)
    return {
      ...plain('portkey', 'no authentication, no record, no persona: a gateway without its cloud', port),
      headers:
        'authorization: Bearer sk-upstream\r\nx-portkey-provider: openai\r\n' +
        `x-portkey-custom-host: http://127.0.0.1:${upstreamPort}/v1\r\n`,
      pid: child.pid ?? 0,
      child,
      stop: () => end(child),
    }
  },
}

/** No system at all: what the load generator and the upstream cost by themselves. */
export function direct(upstreamPort: number): RunningSystem {
  return { ...plain('direct', 'nothing in between', upstreamPort), pid: 0, child: undefined, stop: async () => {} }
}

function plain(name: string, does: string, port: number) {
  return { name, does, port, headers: 'authorization: Bearer sk-upstream\r\n' }
}

async function installPortkey(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true })
  const manifest = {
    private: true,
    dependencies: { '@portkey-ai/gateway': '1.15.2' },
    // With a newer one each of its streams is an error.
    overrides: { '@hono/node-server': '1.13.5' },
  }
  await writeFile(join(directory, 'package.json'), JSON.stringify(manifest))
  const npm = spawn('npm', ['install', '--no-audit', '--no-fund', '--ignore-scripts'], {
    cwd: directory,
    stdio: 'ignore',
  })
  await once(npm, 'exit')
}

function nginxConfiguration(port: number, upstreamPort: number): string {
  return `pid nginx.pid;
events { worker_connections 16384; }
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  client_max_body_size 64m; client_body_buffer_size 1m; keepalive_requests 1000000;
  upstream openai { server 127.0.0.1:${upstreamPort}; keepalive 256; keepalive_requests 1000000; }
  server {
    listen 127.0.0.1:${port} backlog=8192;
    location / {
      proxy_pass http://openai; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Authorization "Bearer sk-upstream"; proxy_buffering off; tcp_nodelay on;
    }
  }
}
`
}

/** On one core of its own, all its threads; its database, started before, keeps the others. */
function pin(pid: number | undefined): void {
  try {
    execFileSync('taskset', ['-acp', '0', String(pid)], { stdio: 'ignore' })
  } catch {
    // Not on this system: the measurement says less, and still compares like with like.
  }
}

async function end(child: ChildProcess): Promise<void> {
  const closed = once(child, 'exit')
  child.kill('SIGTERM')
  await closed
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  return address && typeof address === 'object' ? address.port : 0
}

async function untilOpen(port: number): Promise<void> {
  for (const giveUpAt = Date.now() + 20_000; Date.now() < giveUpAt; ) {
    try {
      const client = await connectWire(port)
      client.close()
      return
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
  throw new Error(`Nothing listens on port ${port}.`)
}

/** Processor time (user and system, all threads) in milliseconds, and resident memory in bytes; zero where /proc is not. */
export function usageOf({ pid }: { pid: number }): { cpuMs: number; rssBytes: number } {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /, '')
      .split(' ')
    const rss = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
    return { cpuMs: (Number(fields[11]) + Number(fields[12])) * 10, rssBytes: Number(rss ?? 0) * 1024 }
  } catch {
    return { cpuMs: 0, rssBytes: 0 }
  }
}
