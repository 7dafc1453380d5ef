import type { BucketRate } from "../core/bucket.ts"
import type { Reported } from "../core/link.ts"
import { counted } from "../core/view.ts"
import { createTap } from "./port-limits.ts"

/**
 * What a supervisor writes into the fleet's timeline. An agent can make it say things (iterations that begin and end at once, failures), so their
 * number is bounded: what one agent does may not push out what is known of the others.
 */

/** An iteration that does something takes seconds and tells two things; a bad day tells some dozen at once. */
export const reportRate: BucketRate = { perSecond: 1, max: 300 }

export function createReports(
  send: (kind: Reported["kind"], message: string) => void,
  nowMs = () => performance.now(),
): (kind: Reported["kind"], message: string) => void {
  const take = createTap(reportRate, nowMs)
  let left = 0
  return (kind, message) => {
    if (!take()) {
      left += 1
      return
    }
    if (left > 0) send("Warning", `${counted(left, "event")} of this agent were left out: it made too many in a short time.`)
    left = 0
    send(kind, message)
  }
}
