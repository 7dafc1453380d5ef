import type { DatabaseSync } from "node:sqlite"
import { DiskFull } from "../../core/faults.ts"
import { faultOf, isFull } from "./errors.ts"

/**
 * Where what must be done on a full disk finds its room: in the reserve, then in memory; or in
 * memory at once.
 */
export type Room = "reserve" | "memory"

/**
 * Since when writes find no room on the disk; and how many that found none in the reserve either
 * are in memory alone.
 */
export interface Shortage {
  readonly since: Date
  readonly held: number
}
interface Held {
  readonly step: () => void
  readonly isUrgent: boolean
}
export interface Writes {
  write<T>(work: () => T): T
  insist(steps: ReadonlyMap<string, () => void>, room: Room): void
  shortage(): Shortage | undefined
  end(): void
}

/** Steps that are held at most: those of a fleet of ten thousand, and its latest events. */
export const heldMax = 20_000
const retryMs = 1000

/**
 * All writes to one database. `take` gives a piece of the reserve back to the disk; false when none
 * is left.
 */
export function createWrites(sql: DatabaseSync, path: string, take: () => boolean): Writes {
  /** By key, in the order in which they must be done. */
  const held = new Map<string, Held>()
  let since: Date | undefined
  let timer: NodeJS.Timeout | undefined

  const commit = <T>(work: () => T): T => {
    sql.exec("BEGIN IMMEDIATE")
    try {
      for (const { step } of held.values()) step()
      const result = work()
      sql.exec("COMMIT")
      held.clear()
      return result
    } catch (error) {
      // A full disk ends some transactions by itself.
      if (sql.isTransaction) sql.exec("ROLLBACK")
      throw error
    }
  }
  const hasRoom = (): void => {
    since = undefined
    clearInterval(timer)
    timer = undefined
  }
  const hasNoRoom = (): void => {
    since ??= new Date()
    timer ??= setInterval(probe, retryMs)
    timer.unref()
  }
  const attempt = <T>(work: () => T): T => {
    try {
      return commit(work)
    } catch (error) {
      if (isFull(error)) hasNoRoom()
      throw faultOf(error, path)
    }
  }
  /**
   * Only what is really written proves that there is room: a transaction that changes nothing needs
   * none.
   */
  const probeStep = sql.prepare("INSERT OR REPLACE INTO term (of, value) VALUES ('probe', ?)")
  let probes = 0
  const probe = (): void => {
    try {
      attempt(() => probeStep.run(++probes))
      hasRoom()
    } catch {
      // Still full; who asks is told by `shortage`.
    }
  }

  return {
    write: attempt,
    insist(steps, room) {
      for (;;)
        try {
          return attempt(() => {
            for (const step of steps.values()) step()
          })
        } catch (error) {
          if (!(error instanceof DiskFull)) throw error
          if (room === "reserve" && take()) continue
          if (held.size + steps.size > heldMax) throw error
          for (const [key, step] of steps) {
            const isUrgent = room === "reserve" || held.get(key)?.isUrgent === true
            held.delete(key)
            held.set(key, { step, isUrgent })
          }
          return
        }
    },
    shortage: () =>
      since && { since, held: [...held.values()].filter(({ isUrgent }) => isUrgent).length },
    end() {
      clearInterval(timer)
      if (held.size > 0) probe()
      clearInterval(timer)
    },
  }
}
