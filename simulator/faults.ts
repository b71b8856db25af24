import { hash } from 'node:crypto'
import { errorBody, typicalError } from './api-error.ts'
import { type Call, cutOff, sendHead, sendWhole } from './call.ts'

/**
 * Answers a call whose behaviour leaves nothing for the endpoint to do.
 * @returns whether there was such a behaviour, and the answer is given.
 */
export async function answerFault(call: Call): Promise<boolean> {
  const { behaviour } = call
  if (behaviour.reset === 'head') cutOff(call)
  else if (behaviour.status !== undefined) await answerStatus(call, behaviour.status)
  else if (behaviour.redirect !== undefined) await answerRedirect(call, behaviour.redirect)
  else if (behaviour.echo) await answerEcho(call)
  else if (behaviour.garbage && call.body.stream !== true) await answerGarbage(call)
  else return false
  return true
}

async function answerStatus(call: Call, status: number): Promise<void> {
  const { body = 'json', code, retry_after, retry_after_ms, should_retry } = call.behaviour
  const headers = {
    ...(retry_after === undefined ? undefined : { 'retry-after': retry_after }),
    ...(retry_after_ms === undefined ? undefined : { 'retry-after-ms': retry_after_ms }),
    ...(should_retry === undefined ? undefined : { 'x-should-retry': should_retry }),
  }
  if (status === 204 || status === 304) {
    sendHead(call, status, 'application/json', headers)
    call.response.end()
    return
  }
  const [contentType, content] = {
    json: ['application/json', errorBody(typicalError(status, code))],
    html: ['text/html', `<html><head><title>${status}</title></head><body><h1>${status}</h1>cloudflare</body></html>`],
    empty: ['application/json', ''],
    array: ['application/json', '[]'],
    text: ['text/plain', 'upstream connect error or disconnect/reset before headers'],
  }[body] as [string, string]
  await sendWhole(call, status, contentType, content, headers)
}

async function answerRedirect(call: Call, location: string): Promise<void> {
  await sendWhole(call, 307, 'text/html', '<html>Temporary Redirect</html>', { location })
}

/** What arrived, so that a test can compare it with what was sent. */
async function answerEcho(call: Call): Promise<void> {
  const { request, rawBody } = call
  const echo = {
    object: 'sim.echo',
    method: request.method,
    url: request.url,
    raw_headers: request.rawHeaders,
    body_sha256: hash('sha256', rawBody),
    body_base64: rawBody.toString('base64'),
  }
  await sendWhole(call, 200, 'application/json', JSON.stringify(echo))
}

async function answerGarbage(call: Call): Promise<void> {
  await sendWhole(call, 200, 'application/json', '{"id": "resp_garbage", "object": "resp')
}
