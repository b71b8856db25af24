import { hash } from 'node:crypto'
import { AppError } from '../errors.ts'

/** A version and its share of a rollout. */
export interface Share {
  version: number
  percent: number
}

/**
 * The version that a session or user gets: always the same while the shares are. When a later version's share grows, whoever had it
 * keeps it.
 * @param shares in the order of their versions; together 100.
 * @param stickyKey the session or the user.
 */
export function chooseVersion(shares: readonly Share[], personaId: string, stickyKey: string): number {
  // 32 bits of a hash are even enough; the persona is in it so that nobody is in the small share of every rollout.
  const point = Number.parseInt(hash('sha256', `${personaId}:${stickyKey}`).slice(0, 8), 16) / 2 ** 32
  let below = 0
  for (const { version, percent } of shares) {
    below += percent / 100
    if (point < below) return version
  }
  return shares.at(-1)?.version ?? 0
}

/** @throws {AppError} `invalid_request` unless the shares are of different versions and whole percents that make 100. */
export function checkShares(shares: readonly Share[]): void {
  const param = 'versions'
  if (shares.length === 0 || shares.length > SHARES_MAX) {
    throw new AppError('invalid_request', `A rollout has 1 to ${SHARES_MAX} versions.`, { param })
  }
  if (new Set(shares.map(({ version }) => version)).size < shares.length) {
    throw new AppError('invalid_request', 'A version stands in a rollout once.', { param })
  }
  const isWhole = shares.every(({ percent }) => Number.isInteger(percent) && percent >= 1 && percent <= 100)
  const sum = shares.reduce((total, { percent }) => total + percent, 0)
  if (!isWhole || sum !== 100) {
    throw new AppError('invalid_request', 'The shares of a rollout are whole percents from 1 that make 100 together.', {
      param,
    })
  }
}

const SHARES_MAX = 10
