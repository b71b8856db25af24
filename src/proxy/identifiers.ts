import { createHmac } from 'node:crypto'
import type { Policies } from '../organizations/policies.ts'
import { IDENTIFIERS, type Identifier } from './payload.ts'

/** Whom an identifier is told apart for. */
interface Party {
  organizationId: string
  userId: string | null
}

/**
 * Tenants that share one OpenAI project would share its prompt caches and be taken for one another when they choose the same identifiers,
 * and OpenAI would hear whom they mean: what reaches it is a keyed hash for each organization and user.
 */
export interface Identifiers {
  hash(party: Party, name: Identifier | 'idempotency_key', value: string): string
  /**
   * What becomes of the identifiers in a body.
   * @param mayAdd whether the endpoint takes a `safety_identifier`.
   */
  edits(
    party: Party,
    policies: Policies,
    identifiers: ReadonlyMap<Identifier, string>,
    mayAdd: boolean,
  ): Map<string, string>
}

/** @param key 32 bytes, the same in every process. */
export function openIdentifiers(key: Buffer): Identifiers {
  function hash({ organizationId, userId }: Party, name: string, value: string): string {
    const parts = [organizationId, userId ?? '', name, value]
    // 43 characters: OpenAI takes up to 64.
    return createHmac('sha256', key).update(parts.join('\0')).digest('base64url')
  }

  return {
    hash,
    edits(party, policies, identifiers, mayAdd) {
      const edits = new Map<string, string>()
      if (policies.identifiers === 'as_sent') return edits
      for (const [name, value] of identifiers) edits.set(name, JSON.stringify(hash(party, name, value)))
      if (policies.identifiers === 'always' && mayAdd && !identifiers.has('safety_identifier')) {
        edits.set('safety_identifier', JSON.stringify(hash(party, 'safety_identifier', '')))
      }
      return edits
    },
  }
}

export function isIdentifier(name: string): name is Identifier {
  return (IDENTIFIERS as readonly string[]).includes(name)
}
