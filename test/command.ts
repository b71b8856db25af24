import { type ChildProcess, spawn } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'

export interface Result {
  stdout: string
  stderr: string
  code: number | null
}

/** `openai-proxy` as the process that an operator starts, with nothing but this environment. */
export function startCommand(
  args: readonly string[],
  env: Record<string, string>,
  cwd: string,
): { child: ChildProcess; ended: Promise<Result> } {
  const child = spawn(process.execPath, [join(import.meta.dirname, '../bin/openai-proxy.cjs'), ...args], {
    cwd,
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: join(tmpdir(), 'openai-proxy-compiled'), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const exited = new Promise<number | null>((resolve) => child.once('exit', resolve))
  const ended = Promise.all([text(child.stdout), text(child.stderr), exited]).then(([stdout, stderr, code]) => ({
    stdout,
    stderr,
    code,
  }))
  return { child, ended }
}

export function runCommand(args: readonly string[], env: Record<string, string>, cwd: string): Promise<Result> {
  return startCommand(args, env, cwd).ended
}
