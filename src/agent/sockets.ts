import { mkdirSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { RunDirectory } from "../run/run-directory.ts"

/**
 * tmux and screen talk to a server that may be anybody's who runs as this user: panes would open
 * there, outside of the run, with that server's environment. So each run has sockets of its own.
 * Not in its run directory, which is too deep for a socket's path (107 bytes) and which loops in
 * namespaces do not see. Only an explicit `tmux -S PATH` leads elsewhere.
 */

const mark = "bb5-"
/**
 * Of the directory above: what stays of a socket's path holds `bb5-XXXXXX/tmux-<uid>/<name of the
 * server>`.
 */
const parentBytesMax = 60

/** Makes the directories; what the loop's environment says of them. */
export function makeSockets(directory: RunDirectory): Record<string, string> {
  const path = firstOf(
    [tmpdir(), "/tmp", "/dev/shm"].filter((parent) => Buffer.byteLength(parent) <= parentBytesMax),
  )
  directory.set("sockets", { path })
  const screen = join(path, "screen")
  mkdirSync(screen, { mode: 0o700 }) // screen refuses a directory that others may enter
  return { TMUX_TMPDIR: path, SCREENDIR: screen }
}
/** @throws the last one's error when none can be written. */
function firstOf([parent = "", ...others]: readonly string[]): string {
  try {
    return mkdtempSync(join(parent, mark))
  } catch (error) {
    if (others.length === 0) throw error
    return firstOf(others)
  }
}

/** When not one process of the run is left. */
export function removeSockets(directory: RunDirectory): void {
  const path = directory.get("sockets")?.path
  if (path !== undefined) rmSync(path, { recursive: true, force: true })
}
