import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Identity } from '../auth/authenticate.ts'
import { AppError } from '../errors.ts'
import type { Policies } from '../organizations/policies.ts'
import type { PersonaCall, PersonaDirectory, ServedPersona } from '../personas/directory.ts'
import { fillTemplate } from '../personas/template.ts'
import { type ItemSpan, walkItems } from './array-items.ts'
import {
  conversationField,
  hasOwnInstructions,
  type InstructionsForm,
  injectPersona,
  keepOnly,
  type MessagesField,
  type ReadBody,
} from './instructions.ts'
import { OPEN_ARRAY, OPEN_OBJECT } from './json-bytes.ts'
import { JsonFields } from './json-fields.ts'
import { readPersonaFields } from './persona-fields.ts'

/** A call that takes instructions, before its persona is known. */
export interface InstructedCall {
  form: InstructionsForm
  body: ReadBody
  /** The value of `X-Persona-ID`. */
  personaHeader: string | undefined
  identity: Identity
  apiKeyId: string
  sessionId: string
  continues: PersonaCall['continues']
  policies: Pick<Policies, 'personas' | 'systemItems'>
}

/** The persona that a call was made with. */
export interface UsedPersona {
  id: string
  version: number
  /** As it was written and as it was sent: what the caller may not see. */
  hidden: readonly string[]
}

/**
 * Finds the persona of a call, and what changes in the body with it.
 * @throws {AppError} `not_found` for a persona that is not the caller's to use, `invalid_request` for what does not fit together.
 */
export async function applyPersona(
  personas: PersonaDirectory,
  call: InstructedCall,
): Promise<{ edits: Map<string, string | Buffer | null>; persona: UsedPersona | undefined }> {
  const { form, body, identity, policies } = call
  const { personaId, variables } = readPersonaFields(body.bytes, body.fields, call.personaHeader)
  const isEnforced = policies.personas === 'enforce'
  const { organizationId, userId } = identity
  const chosen = await personas.choose(
    {
      organizationId,
      userId,
      apiKeyId: call.apiKeyId,
      sessionId: call.sessionId,
      personaId,
      continues: call.continues,
    },
    isEnforced ? 'refuse' : 'next',
  )
  const persona = chosen && !givesWay(chosen, call) ? chosen : undefined
  if (!persona) {
    if (variables.size > 0) throw noPersona()
    return { edits: injectPersona(form, body, undefined), persona: undefined }
  }
  const text = fillTemplate(persona, variables, persona.knownVariables)
  const edits = injectPersona(form, body, {
    text,
    own: policies.personas === 'append' ? 'append' : 'leave_out',
    keep:
      isEnforced && policies.systemItems !== 'allow'
        ? await itemsToKeep(conversationField(form), body, policies.systemItems)
        : undefined,
  })
  return { edits, persona: { id: persona.id, version: persona.version, hidden: [persona.content, text] } }
}

/** What changes in items that are kept for later calls: no persona is displaced by what was put there before. */
export async function editKeptItems(
  body: ReadBody,
  { personas, systemItems }: InstructedCall['policies'],
): Promise<Map<string, string | Buffer | null>> {
  if (personas !== 'enforce' || systemItems === 'allow') return new Map()
  const keep = await itemsToKeep('items', body, systemItems)
  return new Map(keep ? keepOnly(body, 'items', keep) : [])
}

/** A persona that nobody named is a default: instructions of the caller's own are chosen, and go before it. */
function givesWay({ isDefault }: ServedPersona, { form, body, policies }: InstructedCall): boolean {
  return isDefault && policies.personas === 'replace' && form === 'responses' && hasOwnInstructions(body)
}

/**
 * The items of a conversation that are not instructions in disguise; undefined for all of them.
 * @throws {AppError} `invalid_request` when there are others and they are refused, or when it cannot be told.
 */
export async function itemsToKeep(
  name: MessagesField,
  { bytes, fields }: ReadBody,
  policy: 'drop' | 'refuse',
): Promise<ItemSpan[] | undefined> {
  const prompt = fields.get('prompt')
  if (prompt && bytes.toString('latin1', prompt.start, prompt.end) !== 'null') {
    throw new AppError(
      'invalid_request',
      "Stored prompts can displace your organization's personas: they are not allowed.",
      {
        param: 'prompt',
      },
    )
  }
  const field = fields.get(name)
  if (!field || bytes[field.start] !== OPEN_ARRAY) return undefined
  const keep: ItemSpan[] = []
  let isWhole = true
  for (const step of walkItems(bytes, field.start, field.end)) {
    if (typeof step === 'number') await nextTurn()
    else if (!(await isInstruction(bytes, step, name))) keep.push(step)
    else if (policy === 'drop') isWhole = false
    else {
      throw new AppError(
        'invalid_request',
        'Your organization allows no messages of the roles system and developer: its personas say what they would.',
        { param: name },
      )
    }
  }
  return isWhole ? undefined : keep
}

async function isInstruction(bytes: Buffer, { start, end }: ItemSpan, param: string): Promise<boolean> {
  if (bytes[start] !== OPEN_OBJECT) return false
  const item = new JsonFields({ wanted: ['role', 'type'] })
  for (let at = start; at < end; at += SLICE_BYTES) {
    if (at > start) await nextTurn()
    item.push(bytes.subarray(at, Math.min(at + SLICE_BYTES, end)))
  }
  if (item.duplicates.some((name) => name === 'role' || name === 'type')) {
    throw new AppError('invalid_request', 'A message has its role or type more than once.', { param })
  }
  const role = item.value('role')
  // Tools that come within the conversation are no message.
  return (role === 'system' || role === 'developer') && item.value('type') !== 'additional_tools'
}

const SLICE_BYTES = 256 * 1024

function noPersona(): AppError {
  return new AppError('invalid_request', 'This call gets no persona, so there are no variables to give values to.', {
    param: 'persona_variables',
  })
}
