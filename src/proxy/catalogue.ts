import type { UpstreamKey } from '../api-keys/key-ring.ts'
import { AppError } from '../errors.ts'
import { isModelAllowed, type Policies } from '../organizations/policies.ts'
import type { Owner, Ownership } from '../ownership/service.ts'
import { isFineTuned } from './models.ts'
import type { Upstream } from './upstream.ts'

/**
 * The models that an organization may use, of those that OpenAI lists for its key. Fine-tuned ones are left out unless they are its own:
 * their names say whose they are and what for.
 */
export async function listModels(
  { upstream, ownership }: { upstream: Upstream; ownership: Ownership },
  { key, owner, policies }: { key: UpstreamKey; owner: Owner; policies: Policies },
): Promise<Buffer> {
  const { status, body } = await upstream.ask(key, '/models', AbortSignal.timeout(TIMEOUT_MS))
  if (status !== 200) {
    await body.dump()
    throw status === 401
      ? new AppError('upstream_unauthorized', 'OpenAI refused the OpenAI key behind this API key.')
      : new AppError('upstream_unreachable', `OpenAI answered ${status} to a request for its models.`)
  }
  const own = await ownership.list(owner, { kind: 'model', order: 'asc', afterId: undefined, limit: OWN_MAX })
  const ownIds = new Set(own.map(({ objectId }) => objectId))
  const list = await readList(body)
  const data = list.data.filter(({ id }) => isModelAllowed(policies, id) && (!isFineTuned(id) || ownIds.has(id)))
  return Buffer.from(JSON.stringify({ ...list, data }))
}

const TIMEOUT_MS = 30_000
const LIST_BYTES_MAX = 8 * 1024 * 1024
const OWN_MAX = 1000

async function readList(body: AsyncIterable<Buffer>): Promise<{ data: { id: string }[] }> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of body) {
    bytes += chunk.length
    if (bytes > LIST_BYTES_MAX) throw unreadable()
    chunks.push(chunk)
  }
  try {
    const list = JSON.parse(Buffer.concat(chunks).toString()) as { data?: { id?: unknown }[] }
    if (Array.isArray(list.data) && list.data.every((model) => typeof model?.id === 'string')) {
      return list as { data: { id: string }[] }
    }
  } catch {
    // Told below.
  }
  throw unreadable()
}

function unreadable(): AppError {
  return new AppError('upstream_unreachable', "OpenAI's list of models could not be read.")
}
