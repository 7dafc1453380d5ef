import { eventRate, type Reported } from "../core/event.ts"
import { createTap } from "./port-limits.ts"

/**
 * What a supervisor writes into the fleet's timeline. An agent can make it say things (iterations
 * that begin and end at once, failures), so their number is bounded: what one agent does may not
 * push out what is known of the others.
 */

/** While it goes on, people are told of it this often. */
const noteMs = 60_000

export function createReports(
  send: (kind: Reported["kind"], message: string) => void,
  nowMs = () => performance.now(),
): (kind: Reported["kind"], message: string) => void {
  const take = createTap(eventRate, nowMs)
  let left = 0
  let notedAtMs = Number.NEGATIVE_INFINITY
  return (kind, message) => {
    if (!take()) {
      left += 1
      return
    }
    const atMs = nowMs()
    if (left > 0 && atMs - notedAtMs >= noteMs) {
      send(
        "Warning",
        `This agent made too many events in a short time: ${left} ${left === 1 ? "was" : "were"} left out.`,
      )
      left = 0
      notedAtMs = atMs
    }
    send(kind, message)
  }
}
