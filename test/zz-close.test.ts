import { test, after } from 'node:test'
import { randomBytes } from 'node:crypto'
import { startSystem } from './harness.ts'
import { openContentWriter } from '../src/content/writer.ts'
const system = await startSystem()
test('close', async () => {
  const o = await system.organization()
  const { db, vault } = system.server.context
  await system.query('begin'); await system.query('lock table contents')
  const w = openContentWriter({ db, vault, pendingBytesMax: 1e9, onFault: (e) => console.log(e.message), onDropped: () => {} })
  w.keep({ organizationId: o.id, attemptId: crypto.randomUUID(), days: 1, request: { bytes: randomBytes(10), originalBytes: 10 }, response: undefined })
  await new Promise((r) => setTimeout(r, 300))
  const t = performance.now()
  await w[Symbol.asyncDispose]()
  console.log('closed after', performance.now() - t)
  await system.query('rollback')
})
