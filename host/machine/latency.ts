// Percentiles of a histogram whose buckets double (counters.ts); for whoever reads the counters,
// which may be another process.

/** Upper end of bucket `index` in µs, exclusive. */
export function bucketEndUs(index: number): number {
  return 2 ** index;
}

/**
 * The latency in µs below which the part `quantile` (0 to 1) of the requests in `buckets` were
 * answered; undefined when there was none. Within a bucket requests count as evenly spread, so it
 * is off by less than the bucket is wide: a factor of two.
 */
export function percentileUs(buckets: readonly number[], quantile: number): number | undefined {
  const count = buckets.reduce((sum, each) => sum + each, 0);
  if (count === 0) return undefined;
  const wanted = quantile * count;
  let below = 0;
  for (const [index, each] of buckets.entries()) {
    if (each > 0 && below + each >= wanted) {
      const start = index === 0 ? 0 : bucketEndUs(index - 1);
      return start + ((wanted - below) / each) * (bucketEndUs(index) - start);
    }
    below += each;
  }
  return bucketEndUs(buckets.length - 1);
}

/** What was added to a histogram between two looks at it. */
export function histogramSince(now: readonly number[], before: readonly number[]): number[] {
  return now.map((count, index) => count - (before[index] ?? 0));
}
