import { Fault } from "./faults.ts"
import { ownUsage, type Readings } from "./fleet-view.ts"
import type { Instance } from "./instance.ts"

/** The cursor of a wait for iterations: which one of each target it waits for, in their order. */

/**
 * Which iteration each target is waited for: `cursor` has those of an earlier call, so that none
 * that ended in between is missed.
 */
export function iterationsOf(
  targets: readonly Instance[],
  readings: Readings,
  wanted: number | undefined,
  cursor: string | undefined,
): readonly number[] {
  const known = cursor?.split(".").map(Number)
  if (
    known &&
    (known.length !== targets.length || known.some((number) => !Number.isInteger(number)))
  )
    throw new Fault(
      "Invalid",
      "Invalid cursor: it is not from this wait.",
      "Give the cursor of its last answer and the same names, or leave it out.",
    )
  return targets.map(
    ({ uid }, index) => known?.[index] ?? wanted ?? ownUsage(uid, readings).iterations + 1,
  )
}

/** How to go on waiting: by the cursor, no iteration that ends in between is missed. */
export function continuation(numbers: readonly number[]): { cursor?: string; next: string } {
  if (numbers.length === 0) return { next: "Call it again." }
  const cursor = numbers.join(".")
  return { cursor, next: `Call it again with "cursor":"${cursor}".` }
}
