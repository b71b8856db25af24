import type { Config } from '../config.ts'
import { AppError } from '../errors.ts'
import type { ProcessLoad } from '../telemetry/process-load.ts'

type Limits = Pick<
  Config,
  'concurrentRequestsMax' | 'bodyMemoryBytesMax' | 'memoryBytesMax' | 'eventLoopDelayMsMax' | 'organizationRequestsMax'
>

/** What may be under way at one time. Beyond it new work is refused, while what is under way goes on. */
export class Capacity {
  readonly #limits: Limits
  readonly #load: Pick<ProcessLoad, 'secondsAbove' | 'residentBytes'>
  readonly #byOrganization = new Map<string, number>()
  #count = 0
  #bodyBytes = 0

  constructor(limits: Limits, load: Pick<ProcessLoad, 'secondsAbove' | 'residentBytes'>) {
    this.#limits = limits
    this.#load = load
  }

  get count(): number {
    return this.#count
  }

  /** Bytes of request bodies that are held in memory. */
  get bodyBytes(): number {
    return this.#bodyBytes
  }

  /** @throws {AppError} `overloaded` */
  enter(): Place {
    if (this.#count >= this.#limits.concurrentRequestsMax) {
      throw overloaded('The proxy has as many requests under way as it takes; try again shortly.')
    }
    if (this.#load.secondsAbove(this.#limits.eventLoopDelayMsMax) >= BUSY_SECONDS) {
      throw overloaded('The proxy is too busy to take another request; try again shortly.')
    }
    if (this.#load.residentBytes > this.#limits.memoryBytesMax * MEMORY_SHARE) {
      throw overloaded('The proxy has too little memory left to take another request; try again shortly.')
    }
    this.#count += 1
    return new Place(this)
  }

  /** For `Place`. @returns what gives it back. */
  takeForOrganization(organizationId: string, max: number | undefined): () => void {
    const count = this.#byOrganization.get(organizationId) ?? 0
    const countMax = max ?? this.#limits.organizationRequestsMax
    if (count >= countMax) {
      throw new AppError(
        'too_many_concurrent_requests',
        `Your organization has ${countMax} requests under way, as many as this proxy takes from it at one time; try again shortly.`,
        { retryAfterSeconds: RETRY_AFTER_SECONDS },
      )
    }
    this.#byOrganization.set(organizationId, count + 1)
    return () => {
      const left = (this.#byOrganization.get(organizationId) ?? 1) - 1
      if (left === 0) this.#byOrganization.delete(organizationId)
      else this.#byOrganization.set(organizationId, left)
    }
  }

  /** For `Place`. */
  takeForBody(bytes: number): void {
    if (this.#bodyBytes + bytes > this.#limits.bodyMemoryBytesMax) {
      throw overloaded('The proxy holds as many request bodies as it has memory for; try again shortly.')
    }
    this.#bodyBytes += bytes
  }

  /** For `Place`. */
  giveBack({ bodyBytes, isLast }: { bodyBytes: number; isLast: boolean }): void {
    this.#bodyBytes -= bodyBytes
    if (isLast) this.#count -= 1
  }
}

/** One request's share of what there is. It is given back once, whoever comes first or last. */
export class Place {
  readonly #capacity: Capacity
  #leaveOrganization: (() => void) | undefined
  #bodyBytes = 0
  #hasLeft = false

  constructor(capacity: Capacity) {
    this.#capacity = capacity
  }

  /**
   * @param max of the organization's own policy; without one that of the server.
   * @throws {AppError} `too_many_concurrent_requests`
   */
  joinOrganization(organizationId: string, max: number | undefined): void {
    // The client may have gone while it was being asked who it is.
    if (this.#hasLeft) return
    this.#leaveOrganization = this.#capacity.takeForOrganization(organizationId, max)
  }

  /**
   * Some more of the request's body is in memory.
   * @throws {AppError} `overloaded`
   */
  holdBody(bytes: number): void {
    if (this.#hasLeft) return
    this.#capacity.takeForBody(bytes)
    this.#bodyBytes += bytes
  }

  /** The body is on its way, and nobody needs it any more. */
  releaseBody(): void {
    this.#capacity.giveBack({ bodyBytes: this.#bodyBytes, isLast: false })
    this.#bodyBytes = 0
  }

  leave(): void {
    if (this.#hasLeft) return
    this.#hasLeft = true
    this.#capacity.giveBack({ bodyBytes: this.#bodyBytes, isLast: true })
    this.#bodyBytes = 0
    this.#leaveOrganization?.()
  }
}

/** One long pause is no overload. */
const BUSY_SECONDS = 3
/** The rest is for what is under way. */
const MEMORY_SHARE = 0.85
const RETRY_AFTER_SECONDS = 1

function overloaded(message: string): AppError {
  return new AppError('overloaded', message, { retryAfterSeconds: RETRY_AFTER_SECONDS })
}
