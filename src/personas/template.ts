import { AppError } from '../errors.ts'

/** The variables of a version: each name with its default, or null where every call has to bring a value. */
export type Variables = Readonly<Record<string, string | null>>

/** A text with placeholders, `{{name}}`, and the variables they stand for. */
export interface Template {
  content: string
  variables: Variables
}

/**
 * Checks a template as it is written: each placeholder is declared, so that a misspelled one is found here and not by OpenAI.
 * @throws {AppError} `invalid_request` naming what is wrong.
 */
export function checkTemplate({ content, variables }: Template): void {
  if (content.trim() === '' || content.length > CONTENT_LENGTH_MAX) {
    throw new AppError('invalid_request', `A persona's content has 1 to ${CONTENT_LENGTH_MAX} characters.`, {
      param: 'content',
    })
  }
  if (!isStorable(content)) {
    throw new AppError('invalid_request', 'The content holds a character that is no text (NUL or half a pair).', {
      param: 'content',
    })
  }
  const declared = Object.entries(variables)
  if (declared.length > VARIABLES_MAX) {
    throw new AppError('invalid_request', `A persona has up to ${VARIABLES_MAX} variables.`, { param: 'variables' })
  }
  for (const [name, byDefault] of declared) {
    if (!NAME.test(name)) {
      throw new AppError(
        'invalid_request',
        `"${abridged(name)}" cannot name a variable: up to 64 letters, digits and "_", not beginning with a digit.`,
        { param: 'variables' },
      )
    }
    if (byDefault !== null && (byDefault.length > VALUE_LENGTH_MAX || !isStorable(byDefault))) {
      throw new AppError('invalid_request', `A default is text of up to ${VALUE_LENGTH_MAX} characters.`, {
        param: `variables.${name}`,
      })
    }
  }
  for (const [, name = ''] of content.matchAll(PLACEHOLDER)) {
    if (Object.hasOwn(variables, name)) continue
    throw new AppError(
      'invalid_request',
      `The content has {{${name}}}, which is not declared: add "${name}" to the variables, with a default or with null.`,
      { param: 'variables' },
    )
  }
}

/** Variables under which a text that was written without any comes out as it stands, braces included. */
export function variablesAsTheyStand(content: string): Variables {
  const names = [...content.matchAll(PLACEHOLDER)].map(([placeholder, name = '']) => [name, placeholder] as const)
  return Object.fromEntries(names)
}

/**
 * The text of a call. Values are put in literally and once: a value that holds `{{x}}` is text like any other.
 * @param known names that are no error though this version lacks them: those of other versions that are being served.
 * @throws {AppError} `invalid_request` naming a variable that is unknown, missing or too long.
 */
export function fillTemplate(
  { content, variables }: Template,
  values: ReadonlyMap<string, string>,
  known: ReadonlySet<string> = NONE,
): string {
  for (const [name, value] of values) {
    if (!Object.hasOwn(variables, name) && !known.has(name)) {
      throw refused(name, `The persona has no variable "${abridged(name)}".`)
    }
    if (value.length > VALUE_LENGTH_MAX) {
      throw refused(name, `The value of "${name}" has more than ${VALUE_LENGTH_MAX} characters.`)
    }
  }
  const pieces: string[] = []
  let length = 0
  let at = 0
  const add = (piece: string, name: string) => {
    length += piece.length
    if (length > FILLED_LENGTH_MAX) {
      throw refused(name, `With its variables the persona is longer than ${FILLED_LENGTH_MAX} characters.`)
    }
    pieces.push(piece)
  }
  for (const { 0: placeholder, 1: name = '', index } of content.matchAll(PLACEHOLDER)) {
    const value = values.get(name) ?? variables[name] ?? undefined
    if (value === undefined) {
      throw refused(name, `The persona needs a value for "${name}": send it in persona_variables.`)
    }
    add(content.slice(at, index), name)
    add(value, name)
    at = index + placeholder.length
  }
  add(content.slice(at), '')
  return pieces.join('')
}

/** Says whether Postgres can keep a text: it has no NUL and no half of a surrogate pair. */
export function isStorable(text: string): boolean {
  return !text.includes('\0') && text.isWellFormed()
}

const CONTENT_LENGTH_MAX = 100_000
const VALUE_LENGTH_MAX = 8_000
const FILLED_LENGTH_MAX = 200_000
const VARIABLES_MAX = 50
const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,63}$/
const PLACEHOLDER = /\{\{ *([A-Za-z_][A-Za-z0-9_]{0,63}) *\}\}/g
const NONE: ReadonlySet<string> = new Set()

function refused(name: string, sentence: string): AppError {
  return new AppError('invalid_request', sentence, {
    param: name === '' ? 'persona_variables' : `persona_variables.${abridged(name)}`,
  })
}

/** What a caller wrote, quoted back at no length. */
function abridged(text: string): string {
  return text.length > 64 ? `${text.slice(0, 64)}...` : text
}
