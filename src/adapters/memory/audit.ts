import type { AuditEntry, AuditRecord } from "../../core/audit.ts"
import type { Audit, AuditPage, AuditQuery } from "../../core/audit-port.ts"
import { Fault } from "../../core/faults.ts"
import { cut } from "../../core/view.ts"
import type { AuditRow, MemoryBackend } from "./backend.ts"
import type { Connection } from "./connection.ts"

/** Equal calls within this time of the first are one record. */
const equalWithinMs = 60_000
const dayMs = 86_400_000
const recordsMax = 10_000
const pageMax = 1000

const fits =
  ({ who, tool, refused, sinceMs }: AuditQuery) =>
  (record: AuditRecord): boolean =>
    (who === undefined || record.who.includes(who)) &&
    (tool === undefined || record.tool === tool) &&
    (!refused || record.verdict !== "done") &&
    (sinceMs === undefined || record.lastAtMs >= sinceMs)

/** True when this call is beyond its holder's share of the day. */
function isBeyondDay({ auditDays }: MemoryBackend, entry: AuditEntry, day: number): boolean {
  const { perDayMax, holder, series } = entry
  if (perDayMax === undefined) return false
  const key = JSON.stringify([holder, series])
  const today = auditDays.get(key)
  const records = today?.day === day ? today.records : 0
  if (records >= perDayMax) return true
  auditDays.set(key, { day, records: records + 1 })
  return false
}

const newestOf = ({ audit }: MemoryBackend): number => [...audit.keys()].at(-1) ?? 0

function append(backend: MemoryBackend, entry: AuditEntry): void {
  const { audit, clock } = backend
  const { audited, holder } = entry
  const nowMs = clock.nowMs()
  const { who, tool, verdict } = audited
  const call = JSON.stringify([who, tool, verdict, audited.on, audited.flags, audited.made])
  const put = (row: Omit<AuditRow, "record">, before: AuditRow | undefined): void => {
    const cursor = newestOf(backend) + 1
    const sum = { who, tool, verdict, on: [] }
    const first = {
      ...(row.sumOf === undefined ? audited : sum),
      id: `a-${cursor}`,
      atMs: nowMs,
      count: 0,
      isSum: row.sumOf !== undefined,
    }
    const kept = before?.record ?? first
    // A record that counts one more becomes the newest: who reads on meets it again.
    if (before) audit.delete(Number(before.record.cursor))
    const record = { ...kept, cursor: String(cursor), lastAtMs: nowMs, count: kept.count + 1 }
    audit.set(cursor, { ...row, record })
    const [oldest] = audit.keys()
    if (audit.size > recordsMax && oldest !== undefined) audit.delete(oldest)
  }
  const rows = [...audit.values()]
  const equal = rows.find(
    (row) =>
      row.holder === holder &&
      row.call === call &&
      row.sumOf === undefined &&
      Math.abs(row.record.atMs - nowMs) < equalWithinMs,
  )
  if (equal) {
    put(equal, equal)
    return
  }
  const day = Math.floor(nowMs / dayMs)
  if (!isBeyondDay(backend, entry, day)) {
    put({ holder, call, sumOf: undefined }, undefined)
    return
  }
  const sumOf = JSON.stringify([holder, day, who, tool, verdict])
  put(
    { holder, call, sumOf },
    rows.find((row) => row.sumOf === sumOf),
  )
}

export function memoryAudit({ backend, reach }: Connection): Audit {
  const records = (): AuditRecord[] => [...backend.audit.values()].map(({ record }) => record)
  const newest = (): number => newestOf(backend)
  const parse = (text: string): number => {
    const cursor = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN
    if (cursor <= newest()) return cursor
    throw new Fault(
      "Invalid",
      `Invalid cursor: ${JSON.stringify(cut(text, 40))}.`,
      "Take one from an answer of audit.",
    )
  }
  const page = (found: readonly AuditRecord[], limit: number, end: number): AuditPage => {
    const list = found.slice(0, Math.min(limit, pageMax))
    const more = found.length > list.length
    return { records: list, cursor: (more && list.at(-1)?.cursor) || String(end), more }
  }
  return {
    append: (entry) => reach("audit.append", () => append(backend, entry)),
    last: ({ before, ...query }) =>
      reach("audit.last", () => {
        const end = before === undefined ? Number.POSITIVE_INFINITY : parse(before)
        const found = records().filter(({ cursor }) => Number(cursor) < end)
        return page(found.filter(fits(query)).reverse(), query.limit, 0)
      }),
    following: ({ after, ...query }) =>
      reach("audit.following", () => {
        const start = after === "" ? 0 : parse(after)
        const found = records().filter(({ cursor }) => Number(cursor) > start)
        return page(found.filter(fits(query)), query.limit, newest())
      }),
    trim: async () => false,
  }
}
