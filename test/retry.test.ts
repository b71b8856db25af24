import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import { test } from 'node:test'
import { startSystem } from './harness.ts'

test('a call that cannot leave is tried once more, each try an attempt of its own that cost nothing; reports count one request', async () => {
  const system = await startSystem({ OPENAI_API_BASE_URL: `http://127.0.0.1:${await closedPort()}/v1` })
  const organization = await system.organization()

  const answer = await organization.fetch('/v1/responses', {
    method: 'POST',
    body: '{"model":"gpt-4o-mini","input":"hi"}',
  })

  assert.equal(answer.status, 502)
  const rows = await system.query(
    'select attempt_number, status, error_code, cost_nano_usd, request_id from attempts where organization_id = $1 order by attempt_number',
    [organization.id],
  )
  const requestId = answer.headers.get('x-request-id')
  const row = {
    status: 'upstream_error',
    error_code: 'upstream_unreachable',
    cost_nano_usd: '0',
    request_id: requestId,
  }
  assert.deepEqual(rows, [
    { attempt_number: 1, ...row },
    { attempt_number: 2, ...row },
  ])
  const { models, total_requests } = (await (await organization.fetch('/v1/analytics/models')).json()) as {
    models: { request_count: number; failure_count: number }[]
    total_requests: number
  }
  assert.equal(total_requests, 1)
  assert.deepEqual(
    models.map(({ request_count, failure_count }) => [request_count, failure_count]),
    [[1, 1]],
  )
})

/** A port that nobody listens on. */
async function closedPort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  return typeof address === 'object' && address ? address.port : 0
}
