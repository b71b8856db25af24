import type { Secret } from '../secret.ts'

/** What tokens are signed under, and what else they are accepted under. */
export interface JwtSecrets {
  readonly signing: Secret
  /** Accepted beside it until then; undefined when there is none, or its time is over. */
  readonly previous: { secret: Secret; untilSeconds: number } | undefined
  /** Whether there is another one to sign under than the one that was `seen`: a token that none signed may be of a new one. */
  haveChangedSince(seen: Secret): Promise<boolean>
}

export type ReadJwtSecrets = () => Promise<{
  jwtSecretKey: Secret
  jwtSecretKeyPrevious: Secret | undefined
  jwtPreviousUntil: Date | undefined
}>

export async function openJwtSecrets(read: ReadJwtSecrets, now: () => number = Date.now): Promise<JwtSecrets> {
  let secrets = await read()
  let lastReadAt = performance.now()
  let reading: Promise<void> | undefined

  async function reread(): Promise<void> {
    lastReadAt = performance.now()
    secrets = await read()
  }

  return {
    get signing() {
      return secrets.jwtSecretKey
    },
    get previous() {
      const { jwtSecretKeyPrevious: secret, jwtPreviousUntil: until } = secrets
      if (!secret || (until && until.getTime() <= now())) return undefined
      return { secret, untilSeconds: until ? until.getTime() / 1000 : Number.POSITIVE_INFINITY }
    },
    async haveChangedSince(seen) {
      if (secrets.jwtSecretKey.reveal() === seen.reveal() && performance.now() - lastReadAt > REREAD_INTERVAL_MS) {
        reading ??= reread().finally(() => {
          reading = undefined
        })
      }
      await reading
      return secrets.jwtSecretKey.reveal() !== seen.reveal()
    },
  }
}

/** A forged token must not make this process read files all the time. */
const REREAD_INTERVAL_MS = 100
