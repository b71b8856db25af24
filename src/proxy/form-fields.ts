import { AppError } from '../errors.ts'
import { isIdentifier } from './identifiers.ts'
import type { FormField } from './multipart.ts'
import { kindsNamedBy, type Reference } from './references.ts'

/** What is read of a form's fields as they come. */
export class FormFields {
  model: string | null = null
  isStream = false
  readonly toolModels: readonly string[] = []
  readonly references: Reference[] = []
  readonly #seen = new Set<string>()

  /** @throws {AppError} `invalid_request` for a field that comes twice: which of them counts is for nobody to guess. */
  add({ name, value }: FormField): void {
    if (isDeciding(firstStep(name)) && name !== firstStep(name)) {
      throw new AppError('invalid_request', 'The form must give this field by its plain name.', { param: name })
    }
    const kinds = kindsOf(name)
    if (this.#seen.has(name) && !kinds) {
      throw new AppError('invalid_request', 'The form has the same field more than once.', { param: name })
    }
    this.#seen.add(name)
    if (name === 'model') this.model = value
    if (name === 'stream') this.isStream = value === 'true'
    if (kinds) this.references.push({ kinds, id: value, param: name, isLookedUp: true })
  }
}

export function isReadInForm(name: string): boolean {
  return isDeciding(firstStep(name)) || kindsOf(name) !== undefined
}

function isDeciding(name: string): boolean {
  return name === 'model' || name === 'stream' || isIdentifier(name)
}

/** `model[]` and `model.x` are taken for `model` by some. */
function firstStep(name: string): string {
  return name.split(/[[.]/, 1)[0] ?? ''
}

/** `file_id`, `file_ids[]`, `tools[0][file_id]`: whatever step of the name says that an object is named. */
function kindsOf(name: string) {
  for (const step of name.split(/[[\].]+/)) {
    const kinds = kindsNamedBy(step)
    if (kinds) return kinds
  }
  return undefined
}
