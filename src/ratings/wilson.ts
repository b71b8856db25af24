/** A share, and between which shares the true one lies with 95% confidence. */
export interface Share {
  share: number
  low: number
  high: number
}

/**
 * The Wilson score interval of `hits` in `total`: unlike the textbook's it says something sensible of few and of unanimous ratings.
 * Undefined of nothing.
 * @see Newcombe 1998, "Two-sided confidence intervals for the single proportion", method 3.
 */
export function wilsonInterval(hits: number, total: number): Share | undefined {
  if (total === 0) return undefined
  const share = hits / total
  const z2 = Z * Z
  const center = share + z2 / (2 * total)
  const margin = Z * Math.sqrt((share * (1 - share)) / total + z2 / (4 * total * total))
  const scale = 1 + z2 / total
  return {
    share,
    // Rounding must not leave a unanimous share outside of its own interval.
    low: hits === 0 ? 0 : (center - margin) / scale,
    high: hits === total ? 1 : (center + margin) / scale,
  }
}

/** The standard normal distribution's 97.5th percentile. */
const Z = 1.959963984540054
