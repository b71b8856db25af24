import { AppError } from '../errors.ts'
import { isUuid } from '../ids.ts'
import type { JsonField } from './json-fields.ts'

/** What a request says about personas, in fields that OpenAI never sees. */
export interface PersonaFields {
  personaId: string | undefined
  variables: ReadonlyMap<string, string>
}

/** The fields that are taken out of every body. */
export const PERSONA_FIELDS = ['persona_id', 'persona_variables'] as const

/**
 * Reads `persona_id`, `persona_variables` and the header `X-Persona-ID`. An id that is null or empty is one that was not sent.
 * @throws {AppError} `invalid_request` for other types, an id that is none, or two ids that differ.
 */
export function readPersonaFields(
  bytes: Buffer,
  fields: ReadonlyMap<string, JsonField>,
  header: string | undefined,
): PersonaFields {
  const inHeader = readId(header, 'X-Persona-ID')
  const inBody = readId(readValue(bytes, fields, 'persona_id'), 'persona_id')
  if (inHeader !== undefined && inBody !== undefined && inHeader !== inBody) {
    throw new AppError('invalid_request', 'X-Persona-ID and "persona_id" name two personas: send one of them.', {
      param: 'persona_id',
    })
  }
  return { personaId: inBody ?? inHeader, variables: readVariables(readValue(bytes, fields, 'persona_variables')) }
}

const FIELD_BYTES_MAX = 64 * 1024

function readId(value: unknown, param: string): string | undefined {
  if (value === undefined || value === null || value === '') return undefined
  if (typeof value === 'string' && isUuid(value)) return value.toLowerCase()
  throw new AppError('invalid_request', `${param} must be the id of a persona (a UUID).`, { param })
}

function readVariables(value: unknown): ReadonlyMap<string, string> {
  const param = 'persona_variables'
  const variables = new Map<string, string>()
  if (value === undefined || value === null) return variables
  if (typeof value !== 'object' || Array.isArray(value)) {
    throw new AppError('invalid_request', `"${param}" must be an object of texts.`, { param })
  }
  for (const [name, text] of Object.entries(value)) {
    if (typeof text !== 'string') {
      const place = `${param}.${name.slice(0, 64)}`
      throw new AppError('invalid_request', `"${place}" must be a text.`, { param: place })
    }
    variables.set(name, text)
  }
  return variables
}

function readValue(bytes: Buffer, fields: ReadonlyMap<string, JsonField>, name: string): unknown {
  const field = fields.get(name)
  if (!field) return undefined
  if (field.end - field.start > FIELD_BYTES_MAX) {
    throw new AppError('invalid_request', `"${name}" has more than ${FIELD_BYTES_MAX} bytes.`, { param: name })
  }
  try {
    return JSON.parse(bytes.toString('utf8', field.start, field.end)) as unknown
  } catch {
    throw new AppError('invalid_request', `"${name}" is not valid JSON.`, { param: name })
  }
}
