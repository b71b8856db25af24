import type { ObjectKind } from '../ownership/kinds.ts'
import { type JsonVisitor, JsonWalk } from './json-walk.ts'
import { SseWatcher } from './sse.ts'

/**
 * Where an answer hands out ids, as paths such as `output[].id`, and what they are the ids of. Named place by place: an answer repeats
 * much of what the request said, and an id that stands in its metadata is not one that OpenAI has given to this caller.
 */
export interface HandedOut {
  json: IdPlace
  /** Of each event of a stream. */
  stream: IdPlace
}

interface IdPlace {
  kind?: ObjectKind
  names: Map<string, IdPlace>
  element?: IdPlace
}

type Paths = Readonly<Record<string, ObjectKind>>

export function handedOut(json: Paths, stream: Paths = {}): HandedOut {
  return { json: toPlace(json), stream: toPlace(stream) }
}

/** Reads the ids out of an answer as it goes by. */
export interface AnswerIds {
  push(chunk: Buffer): void
}

/**
 * @param form `events`: each piece is the data of a whole event.
 * @param onId called once for each id, before the bytes it ends in are passed on.
 */
export function watchIds(
  places: HandedOut,
  form: 'stream' | 'json' | 'events',
  onId: (kind: ObjectKind, id: string) => void,
): AnswerIds {
  const seen = new Set<string>()
  const tell = (kind: ObjectKind, id: string) => {
    if (seen.has(id)) return
    if (seen.size < SEEN_MAX) seen.add(id)
    onId(kind, id)
  }
  const visitor = visitorOf(tell)
  if (form === 'json') return new JsonWalk(visitor, places.json)
  const { stream } = places
  if (form === 'events') return { push: (event) => new JsonWalk(visitor, stream).push(event) }
  return new SseWatcher({ fields: [], descend: [], tap: () => new JsonWalk(visitor, stream) }, () => {})
}

const SEEN_MAX = 10_000

function visitorOf(tell: (kind: ObjectKind, id: string) => void): JsonVisitor<IdPlace> {
  return {
    under: (place, name) => place.names.get(name),
    element: (place) => place.element,
    wantsText: (place) => place.kind !== undefined,
    text: ({ kind }, id) => {
      if (!kind || !id) return
      // `file_id` of an annotation is a container's file, or one of the caller's own that was found: told apart by how it begins.
      if (kind === 'container_file' && !id.startsWith('cfile')) return
      tell(kind, id)
    },
    left: () => {},
  }
}

function toPlace(paths: Paths): IdPlace {
  const root: IdPlace = { names: new Map() }
  for (const [path, kind] of Object.entries(paths)) {
    let place = root
    for (const step of path.replaceAll('[]', '.[]').split('.')) {
      const next: IdPlace = (step === '[]' ? place.element : place.names.get(step)) ?? { names: new Map() }
      if (step === '[]') place.element = next
      else place.names.set(step, next)
      place = next
    }
    place.kind = kind
  }
  return root
}
