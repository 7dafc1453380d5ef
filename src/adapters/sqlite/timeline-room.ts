import type { Database } from "./open.ts"
import { numberOf } from "./row.ts"

/** Events kept; the oldest go first. */
export const timelineEventsMax = 100_000
/**
 * Of them what one supervisor told, and as much again of what else there is to say of its instance:
 * nobody pushes out what others have to say, and no agent what the control plane says of it.
 */
export const shareMax = timelineEventsMax / 20
/** How many one step removes, of either kind: more than it adds. */
const removedMax = 20

/**
 * Called in the transaction of each new event: removes a bounded number of what is too much, of its
 * share first.
 */
export function trimTimeline(database: Database): (uid: string, share: string) => void {
  const countOf = database.prepare("SELECT events FROM event_count WHERE uid = ? AND share = ?")
  const trim = database.prepare(
    "DELETE FROM event WHERE cursor IN (SELECT cursor FROM event ORDER BY cursor LIMIT ?)",
  )
  const trimShare = database.prepare(
    "DELETE FROM event WHERE cursor IN (SELECT cursor FROM event WHERE uid = ? AND share = ? ORDER BY cursor LIMIT ?)",
  )
  const excess = (uid: string, share: string, max: number): number =>
    Math.min(
      removedMax,
      Math.max(0, numberOf(countOf.get(uid, share) ?? { events: 0 }, "events") - max),
    )
  return (uid, share) => {
    const [tooMany, ofShare] = [excess("", "", timelineEventsMax), excess(uid, share, shareMax)]
    if (ofShare > 0) trimShare.run(uid, share, ofShare)
    if (tooMany > ofShare) trim.run(tooMany - ofShare)
  }
}
