import type { SelftestClient } from './client.ts'

/** What the checks share; each may rely on those before it. */
export interface Walk extends SelftestClient {
  model: string
  /** Sent as `X-User-ID`; undefined when the credential speaks for one user anyway. */
  user: string | undefined
  /** Begins the name of everything that is made. */
  prefix: string
  /** Whether the token may use the admin API; else why not. */
  admin: true | string
  /** Undone in reverse, whatever happens in between. */
  cleanUp: (() => Promise<void>)[]
  requestId: string | undefined
}

/** A check that did not find what it should have; the message ends with what to do. */
export class CheckFailed extends Error {
  /** Without this one there is nothing to check. */
  readonly isFatal: boolean

  constructor(message: string, { isFatal = false } = {}) {
    super(message)
    this.isFatal = isFatal
  }
}

/** A check that cannot be made here. */
export class CheckSkipped extends Error {}
