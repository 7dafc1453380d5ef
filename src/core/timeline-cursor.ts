import { Fault } from "./faults.ts"
import { cut } from "./view.ts"

/** Cursors of the timeline are the numbers of its events, which grow by one. */

/** @throws Invalid for what is not a cursor of this timeline, whose newest event is `newest`. */
export function parseTimelineCursor(text: string, newest: number): number {
  const cursor = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN
  if (cursor <= newest) return cursor
  throw new Fault(
    "Invalid",
    `Invalid cursor: ${JSON.stringify(cut(text, 40))}.`,
    'Start again: "" is the oldest event that is kept, "$" the end.',
  )
}

/**
 * The event after which a reader goes on. `oldest` is undefined while there is none. @throws
 * Invalid as above, NotFound when events behind the cursor are gone.
 */
export function startOfTimeline(
  after: string,
  { oldest, newest, kept }: { oldest: number | undefined; newest: number; kept: string },
): number {
  if (after === "") return 0
  if (after === "$") return newest
  const cursor = parseTimelineCursor(after, newest)
  if (cursor >= (oldest ?? newest + 1) - 1) return cursor
  throw new Fault(
    "NotFound",
    `The events after ${after} are gone: ${kept}.`,
    'Start again with the oldest that is kept: after: "".',
  )
}
