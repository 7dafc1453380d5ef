import { setImmediate } from "node:timers/promises"
import { type AuditEntry, type AuditRecord, auditedSchema } from "../../core/audit.ts"
import type { Audit, AuditPage, AuditQuery, AuditRoom } from "../../core/audit-port.ts"
import { Fault } from "../../core/faults.ts"
import type { Clock } from "../../core/ports.ts"
import { cut } from "../../core/view.ts"
import { trimAudit } from "./audit-room.ts"
import { createHeldSlots } from "./held-slots.ts"
import type { Database } from "./open.ts"
import { numberOf, type Row, stringOf } from "./row.ts"

/** Equal calls within this time of the first are one record. */
export const equalWithinMs = 60_000
/** How many of a caller's newest records are looked at for an equal one. */
const equalAmong = 50
const dayMs = 86_400_000
const pageMax = 1000
/**
 * Rows that a search looks at before it lets others go on: 7 ms of them, measured with 700,000 in
 * the file.
 */
const sliceRows = 20_000
/** What a row costs besides its texts: numbers, and its places in the indexes. */
const rowBytes = 160
/**
 * Records of one holder that wait in memory on a full disk, at most: its newest. What people
 * changed all waits.
 */
const heldOfHolderMax = 100

const callSchema = auditedSchema.pick({ on: true, flags: true, made: true })
const recordOf = (row: Row): AuditRecord => ({
  ...callSchema.parse(JSON.parse(stringOf(row, "call"))),
  id: stringOf(row, "id"),
  cursor: String(numberOf(row, "seq")),
  atMs: numberOf(row, "at_ms"),
  lastAtMs: numberOf(row, "last_ms"),
  count: numberOf(row, "count"),
  isSum: row.sum_of !== null,
  who: stringOf(row, "who"),
  tool: stringOf(row, "tool"),
  verdict: auditedSchema.shape.verdict.parse(row.verdict),
  ...(row.why !== null && { why: stringOf(row, "why") }),
})

/** Conditions and values of a query, behind a WHERE clause's first. */
function conditionsOf({ who, tool, refused, sinceMs }: AuditQuery): {
  where: string
  values: Record<string, string | number>
} {
  const where = [
    ...(who === undefined ? [] : ["instr(who, :who) > 0"]),
    ...(tool === undefined ? [] : ["tool = :tool"]),
    ...(refused ? ["verdict <> 'done'"] : []),
    ...(sinceMs === undefined ? [] : ["last_ms >= :since"]),
  ]
  return {
    where: where.map((one) => ` AND ${one}`).join(""),
    values: {
      ...(who !== undefined && { who }),
      ...(tool !== undefined && { tool }),
      ...(sinceMs !== undefined && { since: sinceMs }),
    },
  }
}

const cursorOf = (text: string, max: number): number => {
  const cursor = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN
  if (cursor <= max) return cursor
  throw new Fault(
    "Invalid",
    `Invalid cursor: ${JSON.stringify(cut(text, 40))}.`,
    "Take one from an answer of audit.",
  )
}

/** What is to be written for one call: at once, or when a full disk has room again. */
function createWriter(database: Database, room: () => AuditRoom) {
  const insert = database.prepare(
    `INSERT INTO audit (id, at_ms, last_ms, count, share, holder, sum_of, who, tool, verdict, call, why, bytes)
     VALUES (:id, :at, :last, :count, :share, :holder, :sum, :who, :tool, :verdict, :call, :why, :bytes)`,
  )
  const equal = database.prepare(
    `SELECT * FROM (SELECT * FROM audit WHERE holder = :holder ORDER BY seq DESC LIMIT ${equalAmong})
     WHERE who = :who AND tool = :tool AND verdict = :verdict AND call = :call AND sum_of IS NULL AND abs(at_ms - :at) < ${equalWithinMs}
     LIMIT 1`,
  )
  const sumOf = database.prepare("SELECT * FROM audit WHERE sum_of = ?")
  const drop = database.prepare("DELETE FROM audit WHERE seq = ?")
  const today = database.prepare(
    "SELECT records FROM audit_day WHERE holder = ? AND series = ? AND day = ?",
  )
  const count = database.prepare(
    `INSERT INTO audit_day (holder, series, day, records) VALUES (?1, ?2, ?3, 1)
     ON CONFLICT (holder, series) DO UPDATE SET records = iif(day = ?3, records + 1, 1), day = ?3`,
  )
  const dropDays = database.prepare("DELETE FROM audit_day WHERE day < ?")
  const trim = trimAudit(database, room)

  return (
    { audited, group, holder, series, perDayMax }: AuditEntry,
    id: string,
    nowMs: number,
  ): void => {
    const { who, tool, verdict, why = null, ...call } = audited
    const said = { who, tool, verdict, call: JSON.stringify(call) }
    const day = Math.floor(nowMs / dayMs)
    const write = (before: Row | undefined, sum: string | null): void => {
      // A record that counts one more becomes the newest: whoever reads on from a cursor comes
      // across it again.
      if (before) drop.run(numberOf(before, "seq"))
      const texts = {
        ...said,
        why,
        ...(sum !== null && { call: JSON.stringify({ on: [] }), why: null }),
      }
      const kept = before
        ? {
            call: stringOf(before, "call"),
            why: before.why === null ? null : stringOf(before, "why"),
          }
        : texts
      insert.run({
        ...said,
        ...kept,
        share: group,
        holder,
        sum,
        last: nowMs,
        id: before ? stringOf(before, "id") : id,
        at: before ? numberOf(before, "at_ms") : nowMs,
        count: (before ? numberOf(before, "count") : 0) + 1,
        bytes: rowBytes + Buffer.byteLength([holder, who, tool, kept.call, kept.why, sum].join("")),
      })
    }
    const same = equal.get({ ...said, holder, at: nowMs })
    if (same) {
      write(same, null)
      return
    }
    if (perDayMax !== undefined) {
      const row = today.get(holder, series, day)
      if (!row) dropDays.run(day)
      if (row && numberOf(row, "records") >= perDayMax) {
        const sum = JSON.stringify([holder, day, who, tool, verdict])
        write(sumOf.get(sum), sum)
        return
      }
      count.run(holder, series, day)
    }
    write(undefined, null)
    trim(nowMs, "beside a write")
  }
}

/** The audit in the one file, with a bound of its own (`room`) that nothing else counts towards. */
export function sqliteAudit(
  database: Database,
  clock: Clock,
  { room, newId }: { room: () => AuditRoom; newId: (prefix: string) => string },
): Audit {
  const write = createWriter(database, room)
  const trim = trimAudit(database, room)
  const newest = database.prepare(
    "SELECT coalesce(max(seq), 0) AS seq FROM sqlite_sequence WHERE name = 'audit'",
  )
  const endOf = (): number => numberOf(database.read(() => newest.get()) ?? {}, "seq")
  const since = database.prepare("SELECT min(seq) AS seq FROM audit WHERE last_ms >= ?")
  const sliceEnd = {
    DESC: database.prepare(
      `SELECT seq FROM audit WHERE seq < ? ORDER BY seq DESC LIMIT 1 OFFSET ${sliceRows}`,
    ),
    ASC: database.prepare(
      `SELECT seq FROM audit WHERE seq > ? ORDER BY seq LIMIT 1 OFFSET ${sliceRows}`,
    ),
  }
  const heldSlot = createHeldSlots(database, heldOfHolderMax)

  /**
   * All filters are SQL's, and it looks slice by slice, so that a search of all there is holds
   * nobody up.
   */
  const search = async (
    query: AuditQuery,
    from: number,
    order: "ASC" | "DESC",
  ): Promise<AuditPage> => {
    const { where, values } = conditionsOf(query)
    const limit = Math.min(query.limit, pageMax)
    const range = order === "DESC" ? "seq < :from AND seq >= :end" : "seq > :from AND seq <= :end"
    const select = database.prepare(
      `SELECT * FROM audit WHERE ${range}${where} ORDER BY seq ${order} LIMIT :count`,
    )
    const oldest =
      query.sinceMs === undefined
        ? 0
        : Number(database.read(() => since.get(query.sinceMs ?? 0))?.seq ?? from)
    const last = order === "DESC" ? oldest : Number.MAX_SAFE_INTEGER
    const records: AuditRecord[] = []
    let at = order === "ASC" ? Math.max(from, oldest - 1) : from
    for (;;) {
      const boundary = database.read(() => sliceEnd[order].get(at))
      const end = boundary ? numberOf(boundary, "seq") : last
      const rows = database.read(() =>
        select.all({ ...values, from: at, end, count: limit + 1 - records.length }),
      )
      records.push(...rows.map(recordOf))
      if (records.length > limit || !boundary || (order === "DESC" && end <= oldest)) break
      at = end
      await setImmediate()
    }
    const more = records.length > limit
    const page = records.slice(0, limit)
    const end = order === "ASC" ? String(endOf()) : "0"
    return { records: page, cursor: more ? (page.at(-1)?.cursor ?? end) : end, more }
  }

  return {
    async append(entry) {
      const [id, nowMs] = [newId("a"), clock.nowMs()]
      const isPeoples = entry.group === "changes by people"
      const key = isPeoples ? id : heldSlot(entry.holder)
      const step = (): void => write(entry, id, nowMs)
      database.insist(new Map([[`audit ${key}`, step]]), isPeoples ? "reserve" : "memory")
    },
    async last({ before, ...query }) {
      return search(
        query,
        before === undefined ? Number.MAX_SAFE_INTEGER : cursorOf(before, endOf()),
        "DESC",
      )
    },
    async following({ after, ...query }) {
      return search(query, after === "" ? 0 : cursorOf(after, endOf()), "ASC")
    },
    trim: async () => database.write(() => trim(clock.nowMs(), "alone")),
  }
}
