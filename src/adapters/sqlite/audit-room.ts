import { auditShares } from "../../core/audit.ts"
import type { AuditRoom } from "../../core/audit-port.ts"
import type { Database } from "./open.ts"
import { numberOf, stringOf } from "./row.ts"

const dayMs = 86_400_000
const megabyte = 1_048_576
/**
 * Records that are removed in one step. Beside a write that are more than it adds, and still no
 * wait.
 */
const removedMax = { "beside a write": 20, alone: 500 }
const batch = 10

/**
 * Removes, in one step of bounded length, what is older than `keepDays`, and of a share that is
 * full the oldest of whoever holds most of it: so whoever fills the audit pushes out its own
 * records, and nobody's who wrote less. True while there may be more to remove.
 */
export function trimAudit(database: Database, room: () => AuditRoom) {
  const dropOld = database.prepare(
    "DELETE FROM audit WHERE seq IN (SELECT seq FROM audit WHERE last_ms < ? ORDER BY last_ms LIMIT ?)",
  )
  const sizeOf = database.prepare("SELECT bytes FROM audit_share WHERE share = ?")
  const largest = database.prepare(
    "SELECT holder FROM audit_holder WHERE share = ? ORDER BY bytes DESC LIMIT 1",
  )
  const dropOldest = database.prepare(
    "DELETE FROM audit WHERE seq IN (SELECT seq FROM audit WHERE holder = ? ORDER BY seq LIMIT ?)",
  )
  return (nowMs: number, when: keyof typeof removedMax): boolean => {
    const { keepDays, megabytesMax } = room()
    const max = removedMax[when]
    let removed = Number(dropOld.run(nowMs - keepDays * dayMs, max).changes)
    for (const [share, part] of Object.entries(auditShares))
      while (removed < max) {
        const row = sizeOf.get(share)
        if (!row || numberOf(row, "bytes") <= part * megabytesMax * megabyte) break
        const holder = largest.get(share)
        if (!holder) break
        removed += Number(dropOldest.run(stringOf(holder, "holder"), batch).changes)
      }
    return removed >= max
  }
}
