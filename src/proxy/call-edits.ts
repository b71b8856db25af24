import type { PersonaDirectory } from '../personas/directory.ts'
import type { AdmittedCall } from './calls.ts'
import type { Identifiers } from './identifiers.ts'
import type { Payload } from './payload.ts'
import { applyPersona, editKeptItems, type UsedPersona } from './personas.ts'

/** What the organization's personas and its policies change in a body in JSON, and the persona that the call gets. */
export type EditCall = (
  call: Pick<AdmittedCall, 'endpoint' | 'identity' | 'personaHeader' | 'sessionId' | 'key' | 'previous' | 'policies'>,
  body: Payload,
) => Promise<{ edits: Map<string, string | Buffer | null>; persona: UsedPersona | undefined }>

export function openCallEdits({
  personas,
  identifiers,
}: {
  personas: PersonaDirectory
  identifiers: Identifiers
}): EditCall {
  async function personaFor(call: Parameters<EditCall>[0], body: Payload): ReturnType<EditCall> {
    const { endpoint, identity, personaHeader, sessionId, key, previous, policies } = call
    if (KEEPS_ITEMS.has(endpoint.name)) return { edits: await editKeptItems(body, policies), persona: undefined }
    if (!endpoint.persona) return { edits: new Map<string, string | Buffer | null>(), persona: undefined }
    const continues = previous?.persona
    const apiKeyId = key.apiKeyId
    const form = endpoint.persona
    return applyPersona(personas, { form, body, personaHeader, identity, apiKeyId, sessionId, continues, policies })
  }

  return async (call, body) => {
    const { edits, persona } = await personaFor(call, body)
    const mayAdd = TAKES_SAFETY_IDENTIFIER.has(call.endpoint.name)
    for (const edit of identifiers.edits(call.identity, call.policies, body.identifiers, mayAdd)) edits.set(...edit)
    return { edits, persona }
  }
}

const KEEPS_ITEMS: ReadonlySet<string> = new Set(['conversations.create', 'conversations.items.create'])

const TAKES_SAFETY_IDENTIFIER: ReadonlySet<string> = new Set([
  'responses.create',
  'responses.websocket',
  'chat.completions.create',
])
