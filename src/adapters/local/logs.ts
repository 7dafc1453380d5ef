import { closeSync, openSync, readSync, statSync } from "node:fs"
import type { LogLine, Logs } from "../../core/ports.ts"
import { runDirectory, runsOf } from "../../run-directory.ts"

/** How much of the end of a log is read for one call. */
const readBytesMax = 4 * 1024 * 1024

/** The last bytes of a file, from the beginning of a line. */
function tailOf(path: string, bytesMax: number): string {
  const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0
  if (size === 0) return ""
  const start = Math.max(0, size - bytesMax)
  const file = openSync(path, "r")
  try {
    const bytes = Buffer.alloc(size - start)
    const text = bytes.toString("utf8", 0, readSync(file, bytes, 0, bytes.length, start))
    return start === 0 ? text : text.slice(text.indexOf("\n") + 1)
  } finally {
    closeSync(file)
  }
}
const lineOf = (line: string): LogLine => {
  const space = line.indexOf(" ")
  return { atMs: Date.parse(line.slice(0, space)) || 0, text: line.slice(space + 1) }
}

/** Lines from the run directories, newest run last. */
export const localLogs = (stateDirectory: string): Logs =>
  async function* ({ uid }, { tailLines, sinceMs }) {
    const lines: LogLine[] = []
    for (const path of runsOf(stateDirectory, uid).toReversed()) {
      const { log } = runDirectory(path)
      for (const part of [log, `${log}.1`]) {
        if (lines.length >= tailLines) break
        const found = tailOf(part, readBytesMax)
          .split("\n")
          .filter((line) => line !== "")
          .map(lineOf)
        lines.unshift(...found.slice(Math.max(0, found.length - (tailLines - lines.length))))
      }
    }
    for (const line of lines) if (sinceMs === undefined || line.atMs >= sinceMs) yield line
  }
