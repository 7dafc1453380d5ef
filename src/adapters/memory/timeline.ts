import type { Event } from "../../core/event.ts"
import type { EventPage, EventQuery, Timeline } from "../../core/ports.ts"
import { parseTimelineCursor, startOfTimeline } from "../../core/timeline-cursor.ts"
import type { Connection } from "./connection.ts"

/** Events kept; the oldest go first. */
const eventsMax = 20_000
const pageMax = 1000

const matches =
  ({ uids, kinds }: EventQuery) =>
  ({ uid, kind }: Event): boolean =>
    (!uids || (uid !== undefined && uids.includes(uid))) && (!kinds || kinds.includes(kind))
const keyOf = ({ uid, id }: Pick<Event, "uid" | "id">): string => JSON.stringify([uid, id])

export function memoryTimeline({ backend, reach, clock, signal: closed }: Connection): Timeline {
  const { events, eventKeys } = backend
  const numberOf = ({ cursor }: Event): number => Number(cursor)
  const oldest = (): number | undefined => events[0] && numberOf(events[0])
  const newest = (): number => {
    const last = events.at(-1)
    return last ? numberOf(last) : 0
  }
  const after = (start: number, query: EventQuery): EventPage => {
    const page = events
      .filter((event) => numberOf(event) > start)
      .filter(matches(query))
      .slice(0, Math.min(query.limit, pageMax))
    return { events: page, cursor: page.at(-1)?.cursor ?? String(newest()) }
  }

  return {
    append: (event) =>
      reach("timeline.append", () => {
        if (eventKeys.has(keyOf(event))) return
        eventKeys.add(keyOf(event))
        events.push({ ...event, cursor: String(newest() + 1) })
        for (const old of events.splice(0, Math.max(0, events.length - eventsMax)))
          eventKeys.delete(keyOf(old))
        backend.changed("events")
      }),
    async events({ after: cursor, waitMs, ...query }, signal) {
      const start = await reach("timeline.events", () =>
        startOfTimeline(cursor, {
          oldest: oldest(),
          newest: newest(),
          kept: `the newest ${eventsMax} are kept`,
        }),
      )
      const now = after(start, query)
      if (now.events.length > 0 || waitMs <= 0 || signal?.aborted) return now
      await new Promise<void>((resolve) => {
        const either = signal ? AbortSignal.any([signal, closed]) : closed
        const done = (): void => {
          cancel()
          end()
          either.removeEventListener("abort", done)
          resolve()
        }
        const cancel = clock.after(waitMs, done)
        const end = backend.listen("events", () => {
          if (after(start, query).events.length > 0) done()
        })
        either.addEventListener("abort", done)
        if (either.aborted) done()
      })
      return signal?.aborted ? now : after(start, query)
    },
    lastEvents: ({ before, sinceMs, ...query }) =>
      reach("timeline.lastEvents", () => {
        const end =
          before === undefined ? Number.POSITIVE_INFINITY : parseTimelineCursor(before, newest())
        const page = events
          .filter((event) => numberOf(event) < end)
          .filter(({ atMs }) => sinceMs === undefined || atMs >= sinceMs)
          .filter(matches(query))
          .reverse()
          .slice(0, Math.min(query.limit, pageMax))
        return { events: page, cursor: String(newest()) }
      }),
  }
}
