import { Fault } from "../../core/faults.ts"
import { type Uid, uidSchema } from "../../core/instance.ts"
import { type Emitted, type Event, emittedSchema } from "../../core/link.ts"
import type { Bus, Clock } from "../../core/ports.ts"
import type { Database } from "./open.ts"
import { numberOf, type Row, textOf } from "./row.ts"

/** Events kept; the oldest go first. */
export const eventsMax = 100_000
const pageMax = 1000

const eventOf = (row: Row): Event => {
  const uid = textOf(row, "uid")
  return {
    ...emittedSchema.parse(JSON.parse(textOf(row, "body"))),
    cursor: String(numberOf(row, "cursor")),
    ...(uid !== "" && { uid: uidSchema.parse(uid) }),
  }
}

export function sqliteTimeline(database: Database, clock: Clock): Pick<Bus, "append" | "events"> {
  // An id counts for its own uid alone, so that no instance can swallow the events of another by guessing ids.
  const insert = database.prepare("INSERT INTO event (uid, id, body) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
  const trim = database.prepare("DELETE FROM event WHERE cursor <= ?")
  const ofAll = database.prepare("SELECT * FROM event WHERE cursor > ? ORDER BY cursor LIMIT ?")
  const ofOne = database.prepare("SELECT * FROM event WHERE uid = ? AND cursor > ? ORDER BY cursor LIMIT ?")
  const newest = database.prepare("SELECT coalesce(max(seq), 0) AS cursor FROM sqlite_sequence WHERE name = 'event'")
  const waiters = new Set<(uid: Uid | undefined) => void>()

  const cursorOf = (after: string): number => {
    if (after === "") return 0
    const end = numberOf(newest.get() ?? {}, "cursor")
    if (after === "$") return end
    const cursor = /^\d{1,15}$/.test(after) ? Number(after) : Number.NaN
    if (!(cursor <= end))
      throw new Fault(
        "Invalid",
        `${JSON.stringify(after.slice(0, 40))} is no cursor of this timeline.`,
        'Begin again: "" is the beginning, "$" the end.',
      )
    return cursor
  }

  return {
    async append({ uid, ...event }: Emitted & { uid?: Uid }) {
      const added = database.write(() => {
        const { changes, lastInsertRowid } = insert.run(uid ?? "", event.id, JSON.stringify(event))
        if (changes > 0) trim.run(Number(lastInsertRowid) - eventsMax)
        return changes > 0
      })
      if (added) for (const waiter of waiters) waiter(uid)
    },
    async events({ after, uid, limit, waitMs }, signal) {
      const cursor = database.read(() => cursorOf(after))
      const count = Math.min(limit, pageMax)
      const found = (): readonly Event[] =>
        database.read(() => (uid === undefined ? ofAll.all(cursor, count) : ofOne.all(uid, cursor, count))).map(eventOf)
      const now = found()
      if (now.length > 0 || waitMs <= 0 || signal?.aborted) return now
      await new Promise<void>((resolve) => {
        const done = (): void => {
          waiters.delete(waiter)
          cancel()
          signal?.removeEventListener("abort", done)
          resolve()
        }
        const waiter = (of: Uid | undefined): void => {
          if (uid === undefined || uid === of) done()
        }
        const cancel = clock.after(waitMs, done)
        waiters.add(waiter)
        signal?.addEventListener("abort", done)
      })
      return signal?.aborted ? [] : found()
    },
  }
}
