import { mkdirSync } from "node:fs"
import { type FileHandle, open } from "node:fs/promises"
import { dirname } from "node:path"
import { DatabaseSync, type StatementSync } from "node:sqlite"
import { setTimeout } from "node:timers/promises"
import { Fault } from "../../core/faults.ts"
import { damaged, faultOf, isBusy, unwritable } from "./errors.ts"
import { keepPrivate } from "./file-mode.ts"
import { migrations } from "./migrations.ts"
import { createWrites, type Room, type Shortage } from "./writes.ts"

/**
 * The one file of a machine's control plane. It is locked for one process, and the lock is the
 * system's own, so it ends with that process however it ends. Nobody else in the process may open
 * and close this file: POSIX drops a process's locks when any of its descriptors closes.
 */
export interface Database {
  readonly path: string
  prepare(sql: string): StatementSync
  /**
   * `work` as one transaction: all of it or nothing. What it wrote survives the end of this process
   * once `write` has returned.
   */
  write<T>(work: () => T): T
  /**
   * As `write`, for what must be done on a full disk too. It takes its room from the reserve, and
   * where none is left each step waits in memory under its key: the last one of a key counts, and
   * it is done before all later writes. A step may be done again after a failure.
   * @throws DiskFull when too many wait already.
   */
  insist(steps: ReadonlyMap<string, () => void>, room: Room): void
  /** What is wanting while writes find no room; undefined otherwise. */
  shortage(): Shortage | undefined
  read<T>(work: () => T): T
  /**
   * Resolves when all that was written so far survives the loss of power, too: what is acknowledged
   * to somebody waits for it. Calls that come together share one flush of the write-ahead log, and
   * the event loop goes on meanwhile. @throws Unavailable when the disk fails.
   */
  durable(): Promise<void>
  /** What is wrong with the file; empty when nothing is. */
  integrityCheck(): readonly string[]
  /** Leaves one file, with nothing in a write-ahead log. Idempotent. */
  close(): void
}

/** How long a successor waits for a predecessor that is just ending. */
export const lockWaitMs = 2000

/**
 * Brings an exclusively locked file to the newest version; throws before anything is written when
 * it is not ours.
 */
function migrate(sql: DatabaseSync, path: string): void {
  const version = Number(sql.prepare("PRAGMA user_version").get()?.user_version)
  const tables = Number(sql.prepare("SELECT count(*) AS tables FROM sqlite_schema").get()?.tables)
  if (version > migrations.length)
    throw new Fault(
      "Invalid",
      `The database ${path} has version ${version}; this blackbox5 knows ${migrations.length} at most.`,
      "Run the newer blackbox5 that wrote it, or set BLACKBOX5_STATE to another directory.",
    )
  if (version === 0 && tables > 0)
    throw new Fault(
      "Invalid",
      `The database ${path} belongs to another program; nothing of it was changed.`,
      "Set BLACKBOX5_STATE to another directory.",
    )
  if (version === migrations.length) return
  for (const migration of migrations.slice(version)) sql.exec(migration)
  sql.exec(`PRAGMA user_version = ${migrations.length}`)
}

function connect(path: string): DatabaseSync {
  keepPrivate(path)
  const sql = new DatabaseSync(path, { timeout: 0 })
  try {
    sql.exec("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE")
    migrate(sql, path)
    // NORMAL hands each commit to the system before it returns, which outlives this process; for a
    // power loss there is durable(). FULL would flush in each commit, with the event loop standing
    // still: 1.2 ms at the median and 28 ms at p99 on a busy cloud disk, 0.006 ms without.
    sql.exec(
      "COMMIT; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = 16777216",
    )
    const finding = sql.prepare("PRAGMA quick_check(1)").get()?.quick_check
    if (finding !== "ok") throw damaged(path, new Error(String(finding)))
    return sql
  } catch (error) {
    sql.close()
    throw error
  }
}

/**
 * `takeReserve` gives some room back to a full disk; false when there is none left to give.
 * @throws Unavailable when another process has it open; Invalid when it cannot be used as it is.
 */
export async function openDatabase(
  path: string,
  takeReserve: () => boolean = () => false,
): Promise<Database> {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  } catch (error) {
    throw unwritable(path, error)
  }
  const giveUpAtMs = performance.now() + lockWaitMs
  for (;;) {
    try {
      return handle(connect(path), path, takeReserve)
    } catch (error) {
      if (!isBusy(error) || performance.now() >= giveUpAtMs) throw faultOf(error, path)
      // Waiting unlocked and for a random time: of several that start at once, each holding the
      // shared lock would keep all from the exclusive one.
      await setTimeout(10 + Math.random() * 50)
    }
  }
}

/**
 * One flush at a time; who comes while one runs waits for the next, for that one may have missed
 * what was just written.
 */
function flusher(path: string): { flush(): Promise<void>; close(): void } {
  let file: Promise<FileHandle> | undefined
  let running: Promise<void> = Promise.resolve()
  let next: Promise<void> | undefined
  const sync = async (): Promise<void> => {
    // Held open: it is no file whose locks could be lost by closing it, and a new descriptor for
    // each flush would cost more than the flush.
    file ??= open(`${path}-wal`, "r+")
    await (await file).datasync()
  }
  return {
    flush() {
      next ??= running
        .catch(() => {})
        .then(() => {
          next = undefined
          running = sync().catch((error: unknown) => {
            file = undefined
            throw new Fault(
              "Unavailable",
              `The disk of ${path} failed to keep what was written (${error instanceof Error ? error.message : error}).`,
              "Look at the system's log for that disk, and try again.",
              error,
            )
          })
          return running
        })
      return next
    },
    close: () => void file?.then((one) => one.close()).catch(() => {}),
  }
}

function handle(sql: DatabaseSync, path: string, takeReserve: () => boolean): Database {
  const log = flusher(path)
  const writes = createWrites(sql, path, takeReserve)
  const attempt = <T>(work: () => T): T => {
    if (!sql.isOpen)
      throw new Fault(
        "Unavailable",
        `The database ${path} is closed.`,
        "Start `blackbox5 serve` again.",
      )
    try {
      return work()
    } catch (error) {
      throw faultOf(error, path)
    }
  }
  return {
    path,
    prepare: (text) => attempt(() => sql.prepare(text)),
    read: attempt,
    write: (work) => attempt(() => writes.write(work)),
    insist: (steps, room) => attempt(() => writes.insist(steps, room)),
    shortage: writes.shortage,
    durable: log.flush,
    integrityCheck: () =>
      attempt(() => {
        const findings = sql.prepare("PRAGMA integrity_check").all()
        return findings.map((row) => String(row.integrity_check)).filter((text) => text !== "ok")
      }),
    close() {
      if (!sql.isOpen) return
      writes.end()
      try {
        sql.exec("PRAGMA wal_checkpoint(TRUNCATE)")
      } finally {
        sql.close()
        log.close()
      }
    },
  }
}

/** What a full disk means now, for people. */
export function diskOf({
  path,
  shortage,
}: Pick<Database, "path" | "shortage">):
  | { readonly warning: string; readonly held: number }
  | undefined {
  const short = shortage()
  if (!short) return undefined
  const { since, held } = short
  const kept =
    held === 0 ? "" : " The last of it holds in memory alone, until `blackbox5 serve` restarts."
  const warning = `The disk of ${path} is full since ${since.toISOString().slice(0, 19)}Z: agents can be paused, stopped and removed, and nothing else is written.${kept} Make room on it.`
  return { warning, held }
}
