/** What the README promises of `npm run demo`. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { text } from 'node:stream/consumers'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { temporaryDirectory } from './harness.ts'

const BINARY = fileURLToPath(new URL('../bin/openai-proxy.cjs', import.meta.url))
const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())
const directory = await temporaryDirectory(stack)

test('the demo shows an answer and what it cost, and ends by itself when asked to', async () => {
  const child = start(['--once', '--port', '0'])

  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'exit')])

  assert.deepEqual([code, stderr], [0, ''])
  assert.match(stdout, /The capital of France is Paris\./)
  assert.match(stdout, /request +req_[0-9a-f]{32}\n +user +demo-user\n/)
  assert.match(stdout, /tokens +8 in \(0 cached\), 6 out\n +cost +\$0\.0000048\n/)
})

test('a second demo reuses the first one, makes way for a taken port, serves what it prints, and ends on Ctrl-C', async () => {
  const occupant = createServer().listen(0, '127.0.0.1')
  await once(occupant, 'listening')
  const address = occupant.address()
  const port = typeof address === 'object' && address ? address.port : assert.fail()
  const child = start(['--port', String(port)])
  const ended = once(child, 'exit')

  let output = ''
  for await (const chunk of child.stdout.setEncoding('utf8')) {
    output += chunk
    if (output.includes('until Ctrl-C')) break
  }
  const url = /^curl (http:\S+)\/v1\/responses/m.exec(output)?.[1]
  const key = /Bearer (sk-proxy-\w+)/.exec(output)?.[1]
  const answer = await fetch(`${url}/v1/responses`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: '{"model": "gpt-4o-mini", "input": "What is the capital of France?"}',
  })
  await answer.text()
  child.kill('SIGINT')
  const [code] = await ended
  occupant.close()

  assert.ok(output.includes(`Port ${port} is taken: using `))
  assert.equal(answer.status, 200)
  assert.match(output, /^psql .* -c "select /m)
  assert.equal(code, 0)
})

function start(args: string[]) {
  return spawn(process.execPath, [BINARY, 'demo', ...args], {
    cwd: directory,
    env: { PATH: process.env.PATH, DATA_DIR: directory },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}
