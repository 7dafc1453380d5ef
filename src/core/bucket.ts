/**
 * A token bucket: what may be taken at once, and how fast that comes back. It holds `max` at first.
 */

export interface BucketRate {
  readonly max: number
  readonly perSecond: number
}
export interface Bucket {
  readonly tokens: number
  readonly atMs: number
}

/** A bucket at a later moment. A clock that goes back adds nothing. */
export function refilled(
  bucket: Bucket | undefined,
  { max, perSecond }: BucketRate,
  nowMs: number,
): Bucket {
  if (!bucket) return { tokens: max, atMs: nowMs }
  const passedMs = Math.max(0, nowMs - bucket.atMs)
  return { tokens: Math.min(max, bucket.tokens + (passedMs / 1000) * perSecond), atMs: nowMs }
}

/** Milliseconds until it holds that many, if nothing is taken. */
export const untilFullMs = (
  { tokens }: Bucket,
  { perSecond }: BucketRate,
  wanted: number,
): number => Math.max(0, ((wanted - tokens) / perSecond) * 1000)

/**
 * Buckets by key. Who was not heard of longest is forgotten first, and begins with a full one
 * again.
 */
export function createBuckets<K>(rate: BucketRate, keysMax: number) {
  const buckets = new Map<K, Bucket>()
  return {
    /**
     * What is left after taking `cost`, which is below zero where it was not enough: that has to be
     * paid back first.
     */
    take(key: K, cost: number, nowMs: number): Bucket {
      const { tokens } = refilled(buckets.get(key), rate, nowMs)
      const left = { tokens: tokens - cost, atMs: nowMs }
      buckets.delete(key)
      buckets.set(key, left)
      const [longest] = buckets.keys()
      if (buckets.size > keysMax && longest !== undefined) buckets.delete(longest)
      return left
    },
  }
}
