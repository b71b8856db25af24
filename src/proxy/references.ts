import { AppError } from '../errors.ts'
import type { ObjectKind } from '../ownership/kinds.ts'
import { type JsonVisitor, JsonWalk } from './json-walk.ts'

/** An object that a request names. */
export interface Reference {
  /** What it may be there. */
  kinds: readonly ObjectKind[]
  id: string
  /** Where the request names it, for a refusal. */
  param: string
  /** Whether OpenAI has to look it up, which only the project that made it can. What comes whole need only be the caller's own. */
  isLookedUp: boolean
  /** It stands on an item whose content is all there, as clients put ids of their own making. */
  isLabel?: boolean
}

/**
 * Finds every object that a request's body names, at any depth and at every occurrence of a name. Fields are known by what they are
 * called wherever they stand, so that a place that is new at OpenAI is checked before anybody has heard of it; only what users name
 * themselves (metadata, attributes, the schemas of tools) is left alone.
 */
export class BodyReferences {
  readonly references: Reference[] = []
  /** Models named elsewhere than at the top: those of tools, and what a session's audio is transcribed with. */
  readonly models: string[] = []
  /** The model of a realtime session. */
  sessionModel: string | null = null
  readonly #walk: JsonWalk<Place>

  constructor() {
    const visitor: JsonVisitor<Place> = {
      under: (place, name) => {
        place.fills?.()
        return place.item && place.under ? underItem(place.item, name) : place.under?.(name)
      },
      element: (place) => {
        place.fills?.()
        return place.element === 'item' ? { ...ITEM, item: new Item() } : place.element?.()
      },
      wantsText: (place) => place.kinds !== undefined || place.isModel === true || place.fills !== undefined,
      text: (place, text) => {
        if (text !== '') place.fills?.(text)
        if (place === SESSION_MODEL) this.sessionModel = text ?? ''
        if (place.isModel) this.models.push(text ?? '')
        else if (place.item) place.item.ids.push(text ?? '')
        else if (place.kinds && !(place.isOnlyWhen && !text?.startsWith(place.isOnlyWhen))) {
          this.#add(place.kinds, text ?? '', place.param ?? '', place.isLookedUp !== false)
        }
      },
      left: (place) => {
        if (!place.item || place.kinds) return
        for (const id of place.item.ids) this.#add(['item'], id, 'id', !place.item.isWhole, place.item.hasOwnContent)
      },
    }
    this.#walk = new JsonWalk(visitor, ROOT)
  }

  push(chunk: Buffer): void {
    this.#walk.push(chunk)
  }

  #add(kinds: readonly ObjectKind[], id: string, param: string, isLookedUp: boolean, isLabel = false): void {
    if (this.references.length >= REFERENCES_MAX) {
      throw new AppError('invalid_request', `The body refers to more than ${REFERENCES_MAX} objects: send fewer.`)
    }
    this.references.push({ kinds, id, param, isLookedUp, ...(isLabel && { isLabel }) })
  }
}

/** What a field called that names, wherever it stands; undefined when it names nothing. */
export function kindsNamedBy(field: string): readonly ObjectKind[] | undefined {
  const noun = ID_FIELD.exec(field)?.[1]
  return noun === undefined ? undefined : KINDS_BY_NOUN[noun]
}

const REFERENCES_MAX = 10_000

const KINDS_BY_NOUN: Record<string, readonly ObjectKind[]> = {
  file: ['file', 'container_file'],
  container: ['container'],
  vector_store: ['vector_store'],
  response: ['response'],
  conversation: ['conversation'],
  upload: ['upload'],
  part: ['upload_part'],
  batch: ['batch', 'file_batch'],
  skill: ['skill'],
  prompt: ['prompt'],
  connector: ['connector'],
  tunnel: ['tunnel'],
  voice: ['voice'],
  approval_request: ['item'],
}

/** `file_id`, `vector_store_ids`, `comparison_response_id`... */
const ID_FIELD = new RegExp(`(?:^|_)(${Object.keys(KINDS_BY_NOUN).join('|')})_ids?$`)

/** A place in a body: what a string there names, and what the places inside are. */
interface Place {
  kinds?: readonly ObjectKind[]
  param?: string
  isLookedUp?: boolean
  /** Strings with another beginning name nothing. */
  isOnlyWhen?: string
  isModel?: boolean
  /** The item that this place is, or that this place is the id of. */
  item?: Item
  /** Called when there is something here: with the text, where it is one. */
  fills?: (text?: string) => void
  under?: (name: string) => Place | undefined
  element?: 'item' | (() => Place | undefined)
}

/** An item of a conversation: one that has no more than an id stands for the one OpenAI keeps. */
class Item {
  readonly ids: string[] = []
  isWhole = false
  type: string | undefined
  /** Names that decide what it is, as far as they have come; a repeated one could be read in two ways. */
  readonly names = new Set<string>()
  isAmbiguous = false
  /** Fields of its content that are not empty. */
  readonly filled = new Set<string>()

  /** Its content stands in it, and cannot be meant to come from where its id says. */
  get hasOwnContent(): boolean {
    const field = this.type === undefined ? undefined : CONTENT_BY_TYPE.get(this.type)
    return !this.isAmbiguous && field !== undefined && this.filled.has(field)
  }
}

/** Where items have their content that OpenAI never asks its store for. Others, such as pictures and reasoning, are not among them. */
const CONTENT_BY_TYPE: ReadonlyMap<string, string> = new Map([
  ['message', 'content'],
  ['additional_tools', 'tools'],
  ['tool_search_output', 'tools'],
  ['function_call', 'arguments'],
  ['function_call_output', 'output'],
  ['custom_tool_call', 'input'],
  ['custom_tool_call_output', 'output'],
  ['local_shell_call_output', 'output'],
  ['shell_call_output', 'output'],
  ['apply_patch_call_output', 'output'],
])
const DECIDING = new Set(['id', 'type', ...CONTENT_BY_TYPE.values()])

const BARE = new Set(['id', 'type', 'status', 'summary'])

const ANY: Place = { under: underAny, element: () => ANY }
const MODEL: Place = { isModel: true }
const ITEM: Place = { under: underAny, element: () => ANY }
const ITEM_ID: Place = { kinds: ['item'] }
const ITEMS: Place = { under: underAny, element: 'item' }
/** Of a chat completion: comes whole, but for what was said aloud. */
const MESSAGE: Place = { under: (name) => (name === 'audio' ? AUDIO : underAny(name)), element: () => ANY }
const MESSAGES: Place = { under: underAny, element: () => MESSAGE }
const TOOL: Place = { under: underTool, element: () => ANY }
const TOOLS: Place = { under: underAny, element: () => TOOL }
/** What a chat completion said aloud is named by its id when the conversation goes on. */
const AUDIO: Place = idOrObject('audio', ['audio'], 'object')
const CONVERSATION: Place = idOrObject('conversation', ['conversation'], 'either')
const CONTAINER: Place = idOrObject('container', ['container'], 'either')
/** Voices that everybody may use have other names. */
const VOICE: Place = Object.assign(idOrObject('voice', ['voice'], 'either'), { isOnlyWhen: 'voice_' })
/** The values of a prompt's variables are called what their author likes. */
const VARIABLES: Place = { under: () => ANY }
const PROMPT: Place = {
  under: (name) => {
    if (name === 'id') return { kinds: ['prompt'], param: 'prompt' }
    return name === 'variables' ? VARIABLES : underAny(name)
  },
}
const SESSION_MODEL: Place = { isModel: true }
/** A realtime session, as a client secret is made for one. */
const SESSION: Place = { under: (name) => (name === 'model' ? SESSION_MODEL : underSession(name)) }
const WITHIN_SESSION: Place = { under: (name) => (name === 'model' ? MODEL : underSession(name)) }
const ROOT: Place = {
  under: (name) => {
    if (name === 'metadata' || name === 'client_metadata' || name === 'persona_variables') return undefined
    if (name === 'messages') return MESSAGES
    if (name === 'session') return SESSION
    return name === 'input' || name === 'items' ? ITEMS : underAny(name)
  },
}

function underItem(item: Item, name: string): Place | undefined {
  if (!BARE.has(name)) item.isWhole = true
  if (!DECIDING.has(name)) return underAny(name)
  if (item.names.has(name)) item.isAmbiguous = true
  item.names.add(name)
  if (name === 'id') return { ...ITEM_ID, item }
  const fills = (text?: string) => {
    if (name === 'type') item.type = text
    else item.filled.add(name)
  }
  return { ...underAny(name), fills }
}

function underAny(name: string): Place | undefined {
  switch (name) {
    // Made of names of the user's own.
    case 'schema':
    case 'json_schema':
    case 'attributes':
      return undefined
    case 'tools':
    case 'functions':
      return TOOLS
    case 'prompt':
      return PROMPT
    case 'conversation':
      return CONVERSATION
    case 'container':
      return CONTAINER
    case 'voice':
      return VOICE
    default:
      return plainField(name)
  }
}

function underSession(name: string): Place | undefined {
  const place = underAny(name)
  return place === ANY ? WITHIN_SESSION : place
}

function underTool(name: string): Place | undefined {
  switch (name) {
    case 'parameters':
    case 'input_schema':
    case 'output_schema':
    case 'headers':
      return undefined
    case 'function':
      return TOOL
    case 'model':
      return MODEL
    default:
      return underAny(name)
  }
}

/** The place of a field that has no meaning of its own but that its name may end in `_id` or `_ids`: made once for each name. */
function plainField(name: string): Place {
  const known = PLAIN_FIELDS.get(name)
  if (known) return known
  const place = idField(name) ?? ANY
  if (PLAIN_FIELDS.size < PLAIN_FIELDS_MAX && name.length <= PLAIN_FIELD_LENGTH_MAX) PLAIN_FIELDS.set(name, place)
  return place
}

function idField(name: string): Place | undefined {
  const kinds = kindsNamedBy(name)
  if (!kinds) return undefined
  // A connector is a service's name and lives in no project.
  const place: Place = { kinds, param: name, isLookedUp: !kinds.includes('connector'), under: underAny }
  place.element = () => place
  return place
}

const PLAIN_FIELDS = new Map<string, Place>()
const PLAIN_FIELDS_MAX = 2000
const PLAIN_FIELD_LENGTH_MAX = 64

/** A field that is an id, or an object that holds one. */
function idOrObject(param: string, kinds: readonly ObjectKind[], form: 'object' | 'either'): Place {
  const id: Place = { kinds, param }
  const place: Place = { under: (name) => (name === 'id' ? id : underAny(name)), element: () => place }
  return form === 'either' ? Object.assign(place, id) : place
}
