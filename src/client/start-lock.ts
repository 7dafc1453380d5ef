import { linkSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs"
import { errorCode } from "../core/error-code.ts"
import { isDiskFull } from "../host/reserve.ts"
import { endMs, pidIsAlive } from "./serve-file.ts"

/** Lets one of the processes that want to start serve do it. */

/** How long a start of serve may take until it answers. */
export const startMs = 15_000
/** An older lock was left by a process whose id another one has now. */
const lockStaleMs = endMs + startMs + 5_000

/** Text and age of a file, or undefined when there is none. */
export function readIfThere(
  path: string,
): { readonly text: string; readonly atMs: number } | undefined {
  try {
    return { atMs: statSync(path).mtimeMs, text: readFileSync(path, "utf8") }
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined
    throw error
  }
}

/**
 * True when this process may start serve now. A lock whose holder is gone is broken, and the next
 * call takes it.
 */
export function takeStartLock(path: string): boolean {
  try {
    writeFileSync(path, `${process.pid}`, { flag: "wx", mode: 0o600 })
    return true
  } catch (error) {
    // On a full disk the file is there but empty: it is ours, and the database's own lock decides
    // in the end.
    if (isDiskFull(error)) return true
    if (errorCode(error) !== "EEXIST") throw error
  }
  const lock = readIfThere(path)
  // An empty lock is being written at this moment; if its writer has died, it ages. A lock from the
  // future was made before the clock was set back.
  if (
    !lock ||
    (Math.abs(Date.now() - lock.atMs) < lockStaleMs &&
      (lock.text === "" || pidIsAlive(Number(lock.text))))
  )
    return false
  const aside = `${path}.${process.pid}`
  try {
    renameSync(path, aside)
    // Another process may have broken and taken it just before the renaming: then it is put back.
    if (readFileSync(aside, "utf8") !== lock.text) linkSync(aside, path)
  } catch (error) {
    if (!["ENOENT", "EEXIST"].includes(errorCode(error) ?? "")) throw error
  }
  rmSync(aside, { force: true })
  return false
}
