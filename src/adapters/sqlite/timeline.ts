import type { StatementSync } from "node:sqlite"
import {
  type Emitted,
  type Event,
  type EventKind,
  emittedSchema,
  reportedKinds,
} from "../../core/event.ts"
import { type Uid, uidSchema } from "../../core/instance.ts"
import type { Clock, EventPage, EventQuery, Timeline } from "../../core/ports.ts"
import { parseTimelineCursor, startOfTimeline } from "../../core/timeline-cursor.ts"
import { createHeldSlots } from "./held-slots.ts"
import type { Database } from "./open.ts"
import { maybeNumberOf, numberOf, type Row, stringOf } from "./row.ts"
import { shareMax, timelineEventsMax, trimTimeline } from "./timeline-room.ts"

/** Events of one instance that wait in memory on a full disk, at most: the newest. */
const heldMax = 100
const pageMax = 1000

const eventOf = (row: Row): Event => {
  const uid = stringOf(row, "uid")
  return {
    ...emittedSchema.parse(JSON.parse(stringOf(row, "body"))),
    cursor: String(numberOf(row, "cursor")),
    ...(uid !== "" && { uid: uidSchema.parse(uid) }),
  }
}

/** Conditions and values of a query, for a WHERE clause that has one of its own before them. */
function conditionsOf({ uids, kinds }: EventQuery): {
  where: string
  values: Record<string, string>
} {
  const where = [
    ...(uids ? ["uid IN (SELECT value FROM json_each(:uids))"] : []),
    ...(kinds ? ["kind IN (SELECT value FROM json_each(:kinds))"] : []),
  ]
  return {
    where: where.map((one) => ` AND ${one}`).join(""),
    values: {
      ...(uids && { uids: JSON.stringify(uids) }),
      ...(kinds && { kinds: JSON.stringify(kinds) }),
    },
  }
}

const reported: ReadonlySet<EventKind> = new Set<EventKind>(reportedKinds)
/**
 * Kinds whose teller keeps them until they are on the disk. The others are witnessed here alone,
 * and wait in memory for room.
 */
const kept: ReadonlySet<EventKind> = new Set<EventKind>([...reportedKinds, "MailDelivered"])
const isToldAgain = (kind: EventKind): boolean => kept.has(kind)

/** Who waits for an event. */
function createWaiters(clock: Clock) {
  const waiters = new Set<(event: Emitted & { uid?: Uid }) => void>()
  /** Resolves at the first event that a query finds, after `waitMs`, or with the signal. */
  const first = (
    { uids, kinds }: Pick<EventQuery, "uids" | "kinds">,
    waitMs: number,
    signal: AbortSignal | undefined,
  ): Promise<void> =>
    new Promise((resolve) => {
      const done = (): void => {
        waiters.delete(waiter)
        cancel()
        signal?.removeEventListener("abort", done)
        resolve()
      }
      const waiter = ({ uid, kind }: Emitted & { uid?: Uid }): void => {
        const isFromThem = !uids || (uid !== undefined && uids.includes(uid))
        if (isFromThem && (!kinds || kinds.includes(kind))) done()
      }
      const cancel = clock.after(waitMs, done)
      waiters.add(waiter)
      signal?.addEventListener("abort", done)
    })
  const tell = (event: Emitted & { uid?: Uid }): void => {
    for (const waiter of [...waiters]) waiter(event)
  }
  return { first, tell }
}

export function sqliteTimeline(database: Database, clock: Clock): Timeline {
  // An id counts for its own uid alone, so that no instance can swallow the events of another by
  // guessing ids.
  const insert = database.prepare(
    "INSERT INTO event (uid, id, body, kind, at_ms, share) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
  )
  const keepBounded = trimTimeline(database)
  const oldest = database.prepare("SELECT min(cursor) AS cursor FROM event")
  const newest = database.prepare(
    "SELECT coalesce(max(seq), 0) AS cursor FROM sqlite_sequence WHERE name = 'event'",
  )
  const heldSlot = createHeldSlots(database, heldMax)
  const waiters = createWaiters(clock)
  /** One for each form of a query: eight of them. */
  const prepared = new Map<string, StatementSync>()
  const statement = (sql: string): StatementSync => {
    const known = prepared.get(sql) ?? database.prepare(sql)
    prepared.set(sql, known)
    return known
  }

  const endOf = (): number => numberOf(newest.get() ?? {}, "cursor")
  const startOf = (after: string): number =>
    startOfTimeline(after, {
      oldest: maybeNumberOf(oldest.get() ?? { cursor: null }, "cursor"),
      newest: endOf(),
      kept: `the newest ${timelineEventsMax} are kept, and of one instance ${2 * shareMax}`,
    })

  return {
    async append({ uid, ...event }: Emitted & { uid?: Uid }) {
      let added = false
      const share = reported.has(event.kind) ? "told" : "witnessed"
      const values = [
        uid ?? "",
        event.id,
        JSON.stringify(event),
        event.kind,
        event.atMs,
        share,
      ] as const
      const step = (): void => {
        added = insert.run(...values).changes > 0
        if (added) keepBounded(uid ?? "", share)
      }
      if (isToldAgain(event.kind)) database.write(step)
      else database.insist(new Map([[`event ${heldSlot(uid ?? "")}`, step]]), "memory")
      if (added) waiters.tell({ ...event, ...(uid !== undefined && { uid }) })
    },
    async events({ after, limit, waitMs, ...query }, signal) {
      const start = database.read(() => startOf(after))
      const { where, values } = conditionsOf({ ...query, limit })
      const select = `SELECT * FROM event WHERE cursor > :start${where} ORDER BY cursor LIMIT :count`
      const found = (): EventPage =>
        database.read(() => {
          const events = statement(select)
            .all({ ...values, start, count: Math.min(limit, pageMax) })
            .map(eventOf)
          return { events, cursor: events.at(-1)?.cursor ?? String(endOf()) }
        })
      const now = found()
      if (now.events.length > 0 || waitMs <= 0 || signal?.aborted) return now
      await waiters.first(query, waitMs, signal)
      return signal?.aborted ? now : found()
    },
    async lastEvents({ before, sinceMs, limit, ...query }) {
      const { where, values } = conditionsOf({ ...query, limit })
      const since = sinceMs === undefined ? "" : " AND at_ms >= :since"
      const select = `SELECT * FROM event WHERE cursor < :before${since}${where} ORDER BY cursor DESC LIMIT :count`
      return database.read(() => {
        const events = statement(select)
          .all({
            ...values,
            before:
              before === undefined ? Number.MAX_SAFE_INTEGER : parseTimelineCursor(before, endOf()),
            ...(sinceMs !== undefined && { since: sinceMs }),
            count: Math.min(limit, pageMax),
          })
          .map(eventOf)
        return { events, cursor: String(endOf()) }
      })
    },
  }
}
