import { callRelay, type Seen } from './client.ts'
import { checkInvariants, type Outcome } from './invariants.ts'
import { openKillRun } from './kill.ts'
import { startServerProcess } from './server-process.ts'

/** OpenAI's connection breaks after every `step`-th byte of a recorded stream: each time one row, and a visible end. */
export async function resetRun(options: {
  step: number
}): Promise<Outcome & { cleanEnds: number; wrongEndings: number }> {
  await using stack = new AsyncDisposableStack()
  const { client, simulator, env, token } = await openKillRun(stack)
  const server = await startServerProcess(env)
  stack.defer(async () => {
    server.child.kill('SIGKILL')
  })
  const call = (sim: string) =>
    callRelay(server.url, token, { model: `sim:tokens=3,model=gpt-4o-mini${sim}`, input: 'hello', stream: true })
  await call('')
  const streamBytes = simulator.ledger.entries().at(-1)?.bytesSent ?? 0

  const seen: Seen[] = []
  for (let at = 0; at < streamBytes; at += options.step * 20) {
    const offsets = Array.from({ length: 20 }, (_, index) => at + index * options.step).filter((n) => n < streamBytes)
    seen.push(...(await Promise.all(offsets.map((offset) => call(`,reset=${offset}`)))))
  }
  await simulator.ledger.idle()
  const exitCode = await server.kill('SIGTERM')
  if (exitCode !== 0) throw new Error(`The server ended with ${exitCode}.`)

  const cleanEnds = seen.filter((one) => !one.sawEnd && !one.isBroken && !one.sawError).length
  const { rows } = await client.query<{ count: string }>(
    "select count(*) from attempts where status not in ('completed', 'upstream_error')",
  )
  return { ...(await checkInvariants(client, simulator, seen)), cleanEnds, wrongEndings: Number(rows[0]?.count) }
}
