import { createApiKey, updateApiKey } from '../../src/api-keys/service.ts'
import { asAdministrator, type Caller, OPERATOR } from '../../src/auth/caller.ts'
import type { Foundation } from '../../src/foundation.ts'
import { updatePolicies } from '../../src/organizations/policies.ts'
import { createOrganization } from '../../src/organizations/service.ts'
import { createPersona, updatePersona } from '../../src/personas/service.ts'
import { Secret } from '../../src/secret.ts'
import { createToken, revokeToken } from '../../src/tokens/service.ts'
import { askUntil } from '../poll.ts'
import { callRelay } from './client.ts'
import type { ServerProcess } from './server-process.ts'

/** From a change to the moment when every server goes by it, in milliseconds. */
export type SeenAfter = Record<keyof typeof CHANGES, number>

/** Takes something away in as many ways as there are, each in an organization of its own, and asks until no server gives it any more. */
export async function changesSeenAfter(foundation: Foundation, servers: readonly ServerProcess[]): Promise<SeenAfter> {
  const measured = Object.entries(CHANGES).map(async ([name, prepare]) => {
    const { id } = await createOrganization(foundation, OPERATOR, { name: `Changed: ${name}` })
    const admin = asAdministrator(OPERATOR, id)
    const { apiKey, syntheticKey } = await createApiKey(foundation, admin, {
      upstreamKey: new Secret('sk-upstream-of-the-changed'),
    })
    const { token, jwt } = await createToken(foundation, admin, { days: 1 })
    const made = { apiKeyId: apiKey.id, syntheticKey: syntheticKey.reveal(), tokenId: token.id, jwt: jwt.reveal() }
    const { credential, fields, change, status } = await prepare(foundation, admin, made)
    await allAnswer(servers, credential, fields, 200)
    await change()
    const changedAt = performance.now()
    await allAnswer(servers, credential, fields, status)
    return [name, performance.now() - changedAt]
  })
  return Object.fromEntries(await Promise.all(measured))
}

interface Made {
  apiKeyId: string
  syntheticKey: string
  tokenId: string
  jwt: string
}

/** How a call is made, and what is done so that it is no longer answered but with `status`. */
interface Change {
  credential: string
  fields?: Record<string, unknown>
  change(): Promise<unknown>
  status: number
}

const CHANGES = {
  token: async (foundation: Foundation, _admin: Caller, { jwt, tokenId }: Made): Promise<Change> => ({
    credential: jwt,
    change: () => revokeToken(foundation, OPERATOR, tokenId),
    status: 401,
  }),
  key: async (foundation: Foundation, admin: Caller, { syntheticKey, apiKeyId }: Made): Promise<Change> => ({
    credential: syntheticKey,
    change: () => updateApiKey(foundation, admin, apiKeyId, { isActive: false }),
    status: 401,
  }),
  persona: async (foundation: Foundation, admin: Caller, { jwt }: Made): Promise<Change> => {
    const { id } = await createPersona(foundation, admin, { name: 'Brief', content: 'Be brief.' })
    return {
      credential: jwt,
      fields: { persona_id: id },
      change: () => updatePersona(foundation, admin, id, { isActive: false }),
      status: 404,
    }
  },
  policy: async (foundation: Foundation, admin: Caller, { jwt }: Made): Promise<Change> => ({
    credential: jwt,
    change: () => updatePolicies(foundation, admin, { models: ['gpt-5'] }),
    status: 404,
  }),
}

async function allAnswer(
  servers: readonly ServerProcess[],
  credential: string,
  fields: Record<string, unknown> | undefined,
  status: number,
): Promise<void> {
  const body = { model: 'sim:tokens=1,model=gpt-4o-mini', input: 'hi', ...fields }
  const ask = () => Promise.all(servers.map(({ url }) => callRelay(url, credential, body)))
  const seen = await askUntil(ask, (answers) => answers.every((answer) => answer.status === status))
  const faults = seen.map((answer) => answer.fault ?? answer.status)
  if (seen.some((answer) => answer.status !== status)) throw new Error(`The servers answer ${faults}, not ${status}.`)
}
