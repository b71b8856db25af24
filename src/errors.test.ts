import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AppError, toErrorBody } from './errors.ts'

test("an error body has OpenAI's shape, and the message again for older clients", () => {
  assert.deepEqual(toErrorBody(new AppError('not_found', 'There is none.', { param: 'id' })), {
    error: { message: 'There is none.', type: 'not_found_error', param: 'id', code: 'not_found' },
    detail: 'There is none.',
  })
  assert.equal(toErrorBody(new AppError('conflict', 'x')).error.param, null)
})

test('each code has its status, and each status the type that SDKs look for', () => {
  for (const [code, status, type] of [
    ['invalid_request', 400, 'invalid_request_error'],
    ['invalid_authentication', 401, 'authentication_error'],
    ['insufficient_scope', 403, 'permission_error'],
    ['no_api_key', 403, 'permission_error'],
    ['not_found', 404, 'not_found_error'],
    ['conflict', 409, 'invalid_request_error'],
    ['body_too_large', 413, 'invalid_request_error'],
    ['rate_limited', 429, 'rate_limit_error'],
    ['internal_error', 500, 'server_error'],
    ['upstream_unreachable', 502, 'server_error'],
    ['database_unavailable', 503, 'server_error'],
    ['upstream_timeout', 504, 'server_error'],
  ] as const) {
    const error = new AppError(code, 'x')
    assert.deepEqual([error.status, toErrorBody(error).error.type], [status, type], code)
  }
})

test('when to try again is not part of the body, and neither is anything else', () => {
  const body = toErrorBody(new AppError('overloaded', 'x', { retryAfterSeconds: 3 }))
  assert.deepEqual(Object.keys(body), ['error', 'detail'])
  assert.deepEqual(Object.keys(body.error), ['message', 'type', 'param', 'code'])
})
