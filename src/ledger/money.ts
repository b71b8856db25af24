/**
 * Nano-dollars as dollars: exact, at least two decimals and no more zeros than that (`$4.92`, `$0.0003`, `-$0.000000001`).
 */
export function formatUsd(nanoUsd: bigint): string {
  const sign = nanoUsd < 0n ? '-' : ''
  return `${sign}$${formatDecimal(nanoUsd < 0n ? -nanoUsd : nanoUsd, 9, 2)}`
}

/**
 * Nano-dollars as people read them in a report: two decimals, below a dollar as many as two digits that count take, so that nothing but
 * zero reads as zero (`$4.92`, `$0.015`, `$0.0003`). Rounded half up; sums are made before.
 */
export function formatUsdRounded(nanoUsd: bigint): string {
  let unit = 10_000_000n
  // Two digits that count are at least ten units.
  while (unit > 1n && nanoUsd < 10n * unit) unit /= 10n
  return formatUsd(divideHalfUp(nanoUsd, unit) * unit)
}

/** A non-negative integer count of 10^-`scale` units as a decimal with at least `decimalsMin` decimals and no zeros after those. */
export function formatDecimal(units: bigint, scale: number, decimalsMin: number): string {
  const digits = units.toString().padStart(scale + 1, '0')
  const decimals = digits.slice(-scale).replace(/0+$/, '').padEnd(decimalsMin, '0')
  const whole = digits.slice(0, -scale)
  return decimals ? `${whole}.${decimals}` : whole
}

/** Rounds half up; both must be non-negative. The only rounding money ever meets. */
export function divideHalfUp(numerator: bigint, denominator: bigint): bigint {
  return (numerator * 2n + denominator) / (denominator * 2n)
}
