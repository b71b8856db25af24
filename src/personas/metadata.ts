import { AppError } from '../errors.ts'
import { isStorable } from './template.ts'

export type Metadata = Record<string, unknown>

/**
 * Metadata as the JSON text that is stored.
 * @throws {AppError} `invalid_request` when it is no object, too large, too deep, or holds what the database cannot.
 */
export function toMetadataText(metadata: Metadata | null | undefined): string | null {
  if (metadata === null || metadata === undefined) return null
  if (typeof metadata !== 'object' || Array.isArray(metadata)) throw refused('an object')
  // Depth first: what is nested too deeply cannot even be written as text.
  const open: { value: unknown; depth: number }[] = [{ value: metadata, depth: 1 }]
  for (let next = open.pop(); next; next = open.pop()) {
    const { value, depth } = next
    if (typeof value === 'string' && !isStorable(value)) throw refused('without NUL and half pairs')
    if (typeof value !== 'object' || value === null) continue
    if (depth > DEPTH_MAX) throw refused(`nested up to ${DEPTH_MAX} deep`)
    for (const [name, inner] of Object.entries(value)) {
      if (!isStorable(name)) throw refused('without NUL and half pairs')
      open.push({ value: inner, depth: depth + 1 })
    }
  }
  const text = JSON.stringify(metadata)
  if (Buffer.byteLength(text) > BYTES_MAX) throw refused(`up to ${BYTES_MAX} bytes of JSON`)
  return text
}

const DEPTH_MAX = 32
const BYTES_MAX = 16 * 1024

function refused(expected: string): AppError {
  return new AppError('invalid_request', `"metadata" must be ${expected}.`, { param: 'metadata' })
}
