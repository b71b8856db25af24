import { newId } from './call.ts'
import { addFile } from './files.ts'
import type { Simulated } from './handler.ts'
import { type Batch, now, type StoredFile } from './objects.ts'

type Line = { custom_id: string; method: string; url: string; body: Record<string, unknown> }
type Owner = { project: string; authorization: string | undefined }
type Done = { line: Line; status: number; body: unknown; requestId: string }

const AT_ONCE = 4

/** Marks the calls that the simulator makes to itself. */
export const BATCH_HEADER = 'x-sim-batch'

/** Runs every line of the input file as a call of its own, and leaves the answers in two new files. */
export async function runBatch(
  { objects, url }: Simulated,
  batch: Batch,
  input: StoredFile,
  owner: Owner,
): Promise<void> {
  const lines = readLines(batch, input)
  if (typeof lines === 'string') {
    const error = { code: 'invalid_json_line', message: lines, line: null, param: null }
    batch.object = { ...batch.object, status: 'failed', failed_at: now(), errors: { object: 'list', data: [error] } }
    return
  }
  batch.object = {
    ...batch.object,
    status: batch.abort.signal.aborted ? 'cancelling' : 'in_progress',
    in_progress_at: now(),
    request_counts: { total: lines.length, completed: 0, failed: 0 },
  }
  const done: Done[] = []
  const waiting = [...lines]
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
  finish()

  async function worker(): Promise<void> {
    while (!batch.abort.signal.aborted) {
      const line = waiting.shift()
      if (!line) return
      const answer = await callOf(line).catch(() => undefined)
      if (!answer) return
      done.push(answer)
      batch.object = { ...batch.object, request_counts: counts() }
    }
  }

  async function callOf(line: Line): Promise<Done> {
    const answer = await fetch(`${url}${line.url.slice('/v1'.length)}`, {
      method: 'POST',
      headers: {
        authorization: owner.authorization ?? '',
        'content-type': 'application/json',
        [BATCH_HEADER]: batch.object.id,
      },
      body: JSON.stringify(line.body),
      signal: batch.abort.signal,
    })
    const requestId = answer.headers.get('x-request-id') ?? ''
    return { line, status: answer.status, body: await answer.json().catch(() => null), requestId }
  }

  function counts() {
    const completed = done.filter(({ status }) => status < 400).length
    return { total: lines.length, completed, failed: done.length - completed }
  }

  function finish(): void {
    const good = done.filter(({ status }) => status < 400)
    const bad = done.filter(({ status }) => status >= 400)
    const cancelled = batch.abort.signal.aborted
    batch.object = {
      ...batch.object,
      status: cancelled ? 'cancelled' : 'completed',
      ...(cancelled ? { cancelled_at: now() } : { finalizing_at: now(), completed_at: now() }),
      request_counts: counts(),
      output_file_id: fileOf('output', good),
      error_file_id: fileOf('error', bad),
      usage: usageOf(good),
    }
  }

  function fileOf(name: string, answers: Done[]): string | null {
    if (answers.length === 0) return null
    const text = answers.map((answer) => `${JSON.stringify(resultLine(answer))}\n`).join('')
    const filename = `${batch.object.id}_${name}.jsonl`
    return addFile(objects, owner.project, filename, 'batch_output', Buffer.from(text)).object.id
  }
}

/** The lines, or what is wrong with them. */
function readLines({ object }: Batch, { content }: StoredFile): Line[] | string {
  const texts = content
    .toString('utf8')
    .split('\n')
    .filter((text) => text.trim() !== '')
  if (texts.length === 0) return 'The input file is empty.'
  const lines: Line[] = []
  for (const [index, text] of texts.entries()) {
    let line: Line | undefined
    try {
      line = JSON.parse(text)
    } catch {}
    if (typeof line?.custom_id !== 'string' || typeof line.body !== 'object') return `Line ${index + 1} is no request.`
    if (line.method !== 'POST' || line.url !== object.endpoint) {
      return `Line ${index + 1} is not a POST to ${object.endpoint}.`
    }
    lines.push(line)
  }
  return lines
}

function resultLine({ line: { custom_id }, status, body, requestId }: Done): Record<string, unknown> {
  return {
    id: newId('batch_req'),
    custom_id,
    response: { status_code: status, request_id: requestId, body },
    error: null,
  }
}

/** The sums of what the answers say, whichever words they use. */
function usageOf(answers: Done[]): Record<string, unknown> {
  const usages = answers.map(
    ({ body }) => ((body as { usage?: unknown } | null)?.usage ?? {}) as Record<string, unknown>,
  )
  const sum = (...names: string[]) =>
    usages.reduce((total, usage) => total + Number(names.map((name) => usage[name]).find(Number.isFinite) ?? 0), 0)
  const detail = (name: string, ...details: string[]) =>
    usages.reduce((total, usage) => {
      const found = details.map((each) => usage[each]).find(Boolean) as Record<string, number> | undefined
      return total + (found?.[name] ?? 0)
    }, 0)
  const input_tokens = sum('input_tokens', 'prompt_tokens')
  const output_tokens = sum('output_tokens', 'completion_tokens')
  return {
    input_tokens,
    input_tokens_details: { cached_tokens: detail('cached_tokens', 'input_tokens_details', 'prompt_tokens_details') },
    output_tokens,
    output_tokens_details: {
      reasoning_tokens: detail('reasoning_tokens', 'output_tokens_details', 'completion_tokens_details'),
    },
    total_tokens: input_tokens + output_tokens,
  }
}
