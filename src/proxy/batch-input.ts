import type { ServerResponse } from 'node:http'
import { AppError } from '../errors.ts'
import type { Admission } from './admission.ts'
import { readBatchLines } from './batch-lines.ts'
import type { AdmittedCall } from './calls.ts'
import { BATCHED, type Endpoint } from './endpoints.ts'
import type { Payload } from './payload.ts'
import { PERSONA_FIELDS } from './persona-fields.ts'
import type { Upstream } from './upstream.ts'

/**
 * Reads the whole input file of a batch that is about to be made: whatever way the file came to OpenAI, each of its lines must be a call
 * that could be made here on its own. Files never change once they are there.
 */
export async function checkBatchInput(
  { upstream, admission }: { upstream: Upstream; admission: Admission },
  call: AdmittedCall,
  fileId: string | undefined,
  limits: { lineBytesMax: number; timeoutMs: number },
): Promise<void> {
  if (fileId === undefined)
    throw new AppError('invalid_request', '"input_file_id" is missing.', { param: 'input_file_id' })
  const signal = AbortSignal.any([AbortSignal.timeout(limits.timeoutMs), closingOf(call.response)])
  const { status, body } = await upstream.ask(call.key, `/files/${fileId}/content`, signal)
  if (status !== 200) {
    await body.dump()
    throw new AppError(
      'upstream_unreachable',
      `OpenAI answered ${status} when it was asked for the batch's input file.`,
    )
  }
  const isBatched = ({ name }: Endpoint) => BATCHED.has(name)
  for await (const { number, endpoint, payload } of readBatchLines(body, { isBatched, ...limits })) {
    await checkLine(admission, call, endpoint, payload).catch((error: unknown) => {
      throw error instanceof AppError ? inLine(number, error) : error
    })
  }
}

async function checkLine(admission: Admission, call: AdmittedCall, endpoint: Endpoint, line: Payload): Promise<void> {
  const { policies } = call
  const fineTuned = admission.requireUsable(endpoint, policies, line)
  const [identifier] = policies.identifiers === 'as_sent' ? [] : line.identifiers.keys()
  if (identifier !== undefined) {
    throw new AppError(
      'invalid_request',
      `"${identifier}" cannot be kept apart from other tenants' there: leave it out.`,
    )
  }
  if (endpoint.persona !== undefined && policies.personas === 'enforce') {
    throw new AppError('invalid_request', "Your organization's personas cannot be applied to calls of a batch.")
  }
  if (PERSONA_FIELDS.some((name) => line.fields.has(name))) {
    throw new AppError('invalid_request', 'Calls of a batch are made without a persona: leave it out.')
  }
  await admission.admitLater(call, [...line.references, ...fineTuned])
}

function inLine(number: number, { code, message }: AppError): AppError {
  return new AppError(code, `Line ${number} of the batch's input file cannot be sent. ${message}`, {
    param: 'input_file_id',
  })
}

/** Goes off when there is nobody left to answer. */
function closingOf(response: ServerResponse): AbortSignal {
  const closing = new AbortController()
  response.once('close', () => closing.abort())
  if (response.destroyed) closing.abort()
  return closing.signal
}
