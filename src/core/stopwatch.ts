import type { Clock } from "./ports.ts"

/**
 * Milliseconds since it was made. A step of the clock backwards counts nothing: a wait ends late by
 * what was measured over it, never by the step.
 */
export function stopwatch(clock: Pick<Clock, "nowMs">): () => number {
  let last = clock.nowMs()
  let sum = 0
  return () => {
    const now = clock.nowMs()
    sum += Math.max(0, now - last)
    last = now
    return sum
  }
}
