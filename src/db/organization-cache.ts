import { AppError } from '../errors.ts'

/** What a loader found, and the organization whose changes make it stale. */
export interface Loaded<T> {
  organizationId: string
  value: T
}

interface Entry extends Loaded<unknown> {
  loadedAt: number
  /** How many invalidations this process had heard when the load began. */
  generation: number
}

/**
 * Reads kept in memory until something behind them changes.
 *
 * Freshness: while the listener is up an entry lives until its organization is invalidated; while it is down, or for entries
 * read before it came back, each is read again. When the database does not answer, an entry that was not invalidated serves on
 * for a bounded time; an invalidated one never does. Misses of one key share one read.
 */
export class OrganizationCache {
  readonly #entries = new Map<string, Entry>()
  readonly #loading = new Map<string, Promise<Entry>>()
  readonly #invalidatedAt = new Map<string, number>()
  readonly #staleMs: number
  readonly #now: () => number
  #generation = 0
  #isListening = false
  #revalidateBefore = 0
  #lastFaultAt = Number.NEGATIVE_INFINITY
  #staleServedCount = 0

  constructor(options: { staleMs: number; now?: () => number }) {
    this.#staleMs = options.staleMs
    this.#now = options.now ?? (() => performance.now())
  }

  /** The cached value at once when it is fresh, else a promise of it. */
  read<T>(key: string, load: () => Promise<Loaded<T>>): T | Promise<T> {
    const entry = this.#entries.get(key)
    if (!entry) return this.#load(key, load)
    if (this.#isInvalidated(entry)) {
      this.#entries.delete(key)
      return this.#load(key, load)
    }
    if (this.#isFresh(entry)) return entry.value as T
    return this.#revalidate(key, entry, load)
  }

  invalidate(organizationId: string): void {
    this.#generation += 1
    this.#invalidatedAt.set(organizationId, this.#generation)
  }

  /** Called when the listener (re)connects: whatever was read before may have changed unheard. */
  listening(): void {
    this.#isListening = true
    this.#revalidateBefore = this.#now()
  }

  deaf(): void {
    this.#isListening = false
  }

  /** Reads that were answered from memory because the database did not answer. */
  get staleServedCount(): number {
    return this.#staleServedCount
  }

  #isInvalidated(entry: Entry): boolean {
    return (this.#invalidatedAt.get(entry.organizationId) ?? 0) > entry.generation
  }

  #isFresh(entry: Entry): boolean {
    const ageMs = this.#now() - entry.loadedAt
    if (!this.#isListening) return ageMs < DEAF_FRESH_MS
    return entry.loadedAt >= this.#revalidateBefore && ageMs < FRESH_MS
  }

  #revalidate<T>(key: string, entry: Entry, load: () => Promise<Loaded<T>>): T | Promise<T> {
    const isServable = () => !this.#isInvalidated(entry) && this.#now() - entry.loadedAt < this.#staleMs
    const loading = this.#load(key, load)
    // Right after a fault the database is not waited for: the read goes on behind the stale answer.
    if (this.#now() - this.#lastFaultAt < FAULT_MEMORY_MS && isServable()) {
      loading.catch(() => {})
      this.#staleServedCount += 1
      return entry.value as T
    }
    return loading.catch((error: unknown) => {
      if (!isUnavailable(error) || !isServable()) throw error
      this.#staleServedCount += 1
      return entry.value as T
    })
  }

  #load<T>(key: string, load: () => Promise<Loaded<T>>): Promise<T> {
    const running = this.#loading.get(key)
    if (running) {
      // It may have begun before a change that has been heard since: whoever came after the change may not get what was before.
      return running.then((entry) => (this.#isInvalidated(entry) ? this.read(key, load) : (entry.value as T)))
    }
    const generation = this.#generation
    const loadedAt = this.#now()
    const loading = load()
      .then(
        (loaded) => {
          const entry = { ...loaded, loadedAt, generation }
          this.#keep(key, entry)
          return entry
        },
        (error: unknown) => {
          if (isUnavailable(error)) this.#lastFaultAt = this.#now()
          // A definite answer ("no such token") ends what was known before.
          else this.#entries.delete(key)
          throw error
        },
      )
      .finally(() => this.#loading.delete(key))
    this.#loading.set(key, loading)
    return loading.then((entry) => entry.value as T)
  }

  #keep(key: string, entry: Entry): void {
    this.#entries.delete(key)
    this.#entries.set(key, entry)
    if (this.#entries.size > ENTRIES_MAX) {
      for (const oldest of this.#entries.keys()) {
        this.#entries.delete(oldest)
        if (this.#entries.size <= ENTRIES_MAX * 0.9) break
      }
    }
  }
}

const ENTRIES_MAX = 100_000
const FRESH_MS = 300_000
/** Without a listener a revocation must still hold within a second. */
const DEAF_FRESH_MS = 500
const FAULT_MEMORY_MS = 2000

function isUnavailable(error: unknown): boolean {
  return error instanceof AppError && error.code === 'database_unavailable'
}
