import { test } from 'node:test'
import { Pool } from 'undici'
import { updatePolicies } from '../src/organizations/policies.ts'
import { startSystem } from './harness.ts'
const system = await startSystem()
test('bench', async () => {
  const pool = new Pool(system.url, { connections: 50 })
  for (const body of ['{"model":"gpt-4o-mini","input":"hi"}', '{"model":"sim:tokens=1000,model=gpt-4o-mini","stream":true,"input":"hi"}']) {
  for (const content of ['none','full','none','full','none','full'] as const) {
    const o = await system.organization()
    await updatePolicies(system.server.context, o.admin, { content })
    const N = body.includes('stream') ? 400 : 4000
    const statuses: Record<string, number> = {}; let sample = ''; let bytes = 0
    const run = async (n: number) => { let i = 0; await Promise.all(Array.from({ length: 50 }, async () => { while (i++ < n) { const r = await pool.request({ path: '/v1/responses', method: 'POST', body, headers: { 'content-type': 'application/json', authorization: `Bearer ${o.token}`, 'x-user-id': 'a' } }); const b = await r.body.text(); bytes += b.length; statuses[r.statusCode] = (statuses[r.statusCode] ?? 0) + 1; if (r.statusCode !== 200) sample ||= b.slice(0, 200) } })) }
    await run(100); await system.server.context.contents.flush(); await system.server.context.ledger.flush()
    const t = performance.now(); const c = process.cpuUsage()
    await run(N)
    const ms = performance.now() - t
    await system.server.context.contents.flush(); await system.server.context.ledger.flush()
    const d = process.cpuUsage(c)
    const [rows] = await system.query('select (select count(*) from contents where organization_id=$1) as contents, (select count(*) from attempts where organization_id=$1) as attempts', [o.id])
    console.log(content, Math.round(N / ms * 1000), 'rps cpu_us/req', Math.round((d.user + d.system) / N), 'flush ms', Math.round(performance.now() - t - ms), 'dropped', system.server.context.contents.droppedCount, JSON.stringify(statuses), JSON.stringify(rows), 'bytes/req', Math.round(bytes/(N+100)), sample)
  }}
  await pool.close()
})
