import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { toAttempt, toNanoUsd } from './request-row.ts'
import type { LegacyRequest } from './source.ts'

test('dollars become nano-dollars to the last digit, and what is no amount becomes none', () => {
  for (const [dollars, nano] of [
    ['0', 0n],
    ['0.000000', 0n],
    ['0.000001', 1000n],
    ['9999.999999', 9_999_999_999_000n],
    ['0.0225', 22_500_000n],
    ['123456789.123456789', 123_456_789_123_456_789n],
  ] as const) {
    assert.equal(toNanoUsd(dollars), nano, dollars)
  }
  for (const text of ['NaN', '-0.000001', '', '1e3', '0.0000000001', 'Infinity', ' 1']) {
    assert.equal(toNanoUsd(text), undefined, text)
  }
})

test('what the earlier system called completed is told apart by what it recorded', () => {
  const proxyError = JSON.stringify({ type: 'proxy_error', code: 'HTTP_502', message: 'gone' })
  const refusal = JSON.stringify({ type: 'invalid_request_error', code: 'model_not_found' })
  const cases: [Partial<LegacyRequest>, [status: string, source: string, cost: string | null, code: string | null]][] =
    [
      [{ usage: [usage(10, 5, '0.000075')] }, ['completed', 'reported', '75000', null]],
      [{ usage: null }, ['completed', 'unknown', null, null]],
      [{ usage: null, error_message: proxyError }, ['upstream_error', 'unknown', null, 'HTTP_502']],
      [{ response_payload: '{"status":"incomplete"}' }, ['incomplete', 'unknown', null, null]],
      [{ status: 'failed', error_message: refusal }, ['failed', 'reported', '0', 'model_not_found']],
      [{ status: 'failed', error_message: proxyError }, ['upstream_error', 'unknown', null, 'HTTP_502']],
      [{ status: 'failed', error_message: 'not json' }, ['failed', 'unknown', null, 'legacy_error']],
      [{ status: 'failed', error_message: null, response_id: 'resp_1' }, ['failed', 'unknown', null, null]],
      [{ status: 'pending' }, ['interrupted', 'unknown', null, 'legacy_pending']],
      [{ status: 'done' }, ['interrupted', 'unknown', null, 'legacy_status']],
    ]
  for (const [values, expected] of cases) {
    const { row } = attempt(values)
    assert.deepEqual(
      [row.status, row.usage_source, row.cost_nano_usd, row.error_code],
      expected,
      JSON.stringify(values),
    )
  }
})

test("OpenAI's own usage object is kept where it says the same, so that cached tokens can be priced again", () => {
  const sent = { input_tokens: 10, output_tokens: 5, total_tokens: 15, input_tokens_details: { cached_tokens: 8 } }
  const response_payload = JSON.stringify({ model: 'gpt-4o-2024-08-06', service_tier: 'flex', usage: sent })
  const same = attempt({ usage: [usage(10, 5, '0.000075')], response_payload }).row
  const other = attempt({ usage: [usage(11, 5, '0.000075')], response_payload }).row

  assert.deepEqual(
    [same.cached_tokens, same.usage, same.model_used, same.service_tier],
    [8, sent, 'gpt-4o-2024-08-06', 'flex'],
  )
  assert.deepEqual([other.cached_tokens, other.input_tokens], [0, 11])
})

test('senseless counts, amounts, times and payloads are said and never guessed', () => {
  for (const [values, note] of [
    [{ usage: [usage(-1, 5, '1')] }, /tokens are no counts/],
    [{ usage: [usage(1, 5, 'NaN')] }, /cost is no amount/],
    [{ usage: [usage(1, 5, '1'), usage(1, 5, '2')] }, /several times/],
    [{ created_at: null }, /no time of creation/],
    [{ completed_at: '2025-08-10T11:00:00+00:00' }, /end is before its beginning/],
    [{ completed_at: '2025-08-10T20:00:00+00:00' }, /source-time-zone/],
  ] as const) {
    assert.match(attempt(values as Partial<LegacyRequest>).notes.join('; '), note)
  }
  const { row } = attempt({ request_payload: 'not json', response_payload: '[]', usage: [usage(1, 2, null)] })
  assert.deepEqual([row.is_stream, row.cost_nano_usd, row.total_tokens], [false, null, 3])
})

function usage(input_tokens: number, output_tokens: number, cost_usd: string | null) {
  return { input_tokens, output_tokens, reasoning_tokens: null, total_tokens: null, model: 'gpt-4o', cost_usd }
}

function attempt(values: Partial<LegacyRequest>) {
  const legacy: LegacyRequest = {
    id: randomUUID(),
    request_id: 'req_1',
    response_id: null,
    session_id: 'sess_1',
    user_id: randomUUID(),
    user_organization_id: randomUUID(),
    api_key_id: randomUUID(),
    key_organization_id: randomUUID(),
    persona_id: null,
    model: 'gpt-4o',
    status: 'completed',
    error_message: null,
    rating: null,
    rating_feedback: null,
    rating_timestamp: null,
    created_at: '2025-08-10T12:00:00.123456+00:00',
    completed_at: '2025-08-10T12:00:02.623456+00:00',
    usage: null,
    request_payload: '{}',
    response_payload: null,
    ...values,
  }
  return toAttempt(legacy, { organizationId: randomUUID(), userId: randomUUID() })
}
