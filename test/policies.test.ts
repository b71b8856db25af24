import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { updatePolicies } from '../src/organizations/policies.ts'
import { startSystem, type TestOrganization } from './harness.ts'
import { askUntil } from './poll.ts'

const system = await startSystem()

test('with the policy "drain" an answer whose client has gone is read to its end and settled exactly', async () => {
  const organization = await system.organization()
  await updatePolicies(system.server.context, organization.admin, { clientGone: 'drain' })

  await leaveAfterFirstEvent(organization, 'sim:tokens=40,tps=40,model=gpt-4o-mini')
  await system.simulator.ledger.idle()

  const [row] = await rowsOf(organization)
  assert.deepEqual([row?.status, row?.usage_source, row?.output_tokens], ['client_closed', 'reported', '40'])
})

test('with the policy "abort", the default, the call is cut and settled as an estimate', async () => {
  const organization = await system.organization()

  await leaveAfterFirstEvent(organization, 'sim:tokens=4000,tps=200,model=gpt-4o-mini')
  await system.simulator.ledger.idle()

  const [row] = await rowsOf(organization)
  assert.deepEqual([row?.status, row?.usage_source], ['client_closed', 'estimated'])
  assert.ok(Number(row?.output_tokens) < 4000)
  assert.ok(Number(row?.cost_nano_usd) > 0)
})

test('a model without a price is served and shown as unpriced, never free, unless the organization refuses such models', async () => {
  const organization = await system.organization()
  const call = () =>
    organization.fetch('/v1/responses', { method: 'POST', body: '{"model":"model-of-tomorrow","input":"hi"}' })

  const allowed = await call()
  await updatePolicies(system.server.context, organization.admin, { unpricedModels: 'refuse' })
  const refused = await askUntil(call, (answer) => answer.status !== 200)

  assert.equal(allowed.status, 200)
  const [row] = await rowsOf(organization)
  assert.deepEqual([row?.status, row?.cost_nano_usd], ['completed', null])
  assert.equal(refused.status, 400)
  assert.match(await refused.text(), /"code":"model_unpriced"/)
})

test('prices that the operator changes in the file hold without a restart, and a broken file changes nothing', async () => {
  const organization = await system.organization()
  const file = join(String(system.env.DATA_DIR), 'prices.json')
  const price = async () => {
    await organization.client().responses.create({ model: 'house-model', input: 'hi' })
    return (await rowsOf(organization)).at(-1)?.cost_nano_usd as string | null
  }

  await writeFile(file, JSON.stringify({ models: { 'house-model': { input_mtok: 1, output_mtok: 2 } } }))
  const priced = await askUntil(price, (cost) => cost !== null)
  await writeFile(file, '{ not json')
  const afterBroken = await price()

  assert.ok(Number(priced) > 0)
  assert.equal(afterBroken, priced)
})

async function leaveAfterFirstEvent(organization: TestOrganization, model: string): Promise<void> {
  const stream = await organization.client().responses.create({ model, input: 'hello', stream: true })
  for await (const event of stream) {
    if (event.type === 'response.output_text.delta') break
  }
}

function rowsOf(organization: TestOrganization) {
  return askUntil(
    () => system.query('select * from attempts where organization_id = $1 order by opened_at', [organization.id]),
    (rows) => rows.length > 0,
  )
}
