import { ApiError } from './api-error.ts'

/** Things of one kind by project: the keys of one project see the same ones, and no others. At least the last 10,000 are kept. */
export type Collection<T> = {
  find(project: string, id: string): T | undefined
  /** @throws ApiError 404 as OpenAI words it for this kind. */
  get(project: string, id: string): T
  save(project: string, id: string, thing: T): void
  /** @returns what was there. @throws ApiError 404. */
  remove(project: string, id: string): T
  /** All of a project, the oldest first. */
  list(project: string): T[]
  /** Of every project. */
  all(): Iterable<T>
}

const GENERATION = 10_000

/** @param missing What the 404 says of an id, such as ``(id) => `No such File object: ${id}` ``. */
export function openCollection<T>(missing: (id: string) => string): Collection<T> {
  // Two generations: deleting the oldest one by one would make each look for it past all those deleted before.
  let young = new Map<string, { project: string; thing: T }>()
  let old = new Map<string, { project: string; thing: T }>()

  function find(project: string, id: string): T | undefined {
    const found = young.get(id) ?? old.get(id)
    return found?.project === project ? found.thing : undefined
  }
  function get(project: string, id: string): T {
    const thing = find(project, id)
    if (thing === undefined) throw new ApiError(404, missing(id))
    return thing
  }

  return {
    find,
    get,
    save(project, id, thing) {
      if (young.size >= GENERATION) {
        old = young
        young = new Map()
      }
      young.set(id, { project, thing })
    },
    remove(project, id) {
      const thing = get(project, id)
      if (!young.delete(id)) old.delete(id)
      return thing
    },
    list(project) {
      const all = [...old.values(), ...young.values()]
      return all.filter((each) => each.project === project).map(({ thing }) => thing)
    },
    *all() {
      for (const { thing } of old.values()) yield thing
      for (const { thing } of young.values()) yield thing
    },
  }
}
