import { type Logger, pino } from "pino"
import { DiskFull, Fault } from "../core/faults.ts"
import { redacted, withoutWordsOf, wordsWith } from "../core/secrets.ts"
import { stripped } from "../core/view.ts"

export type Log = Logger

/** Lines that wait where the log's own disk is full; what comes after them is dropped. */
const waitingBytesMax = 1_048_576

/**
 * Structured lines on stderr: stdout belongs to results and to the MCP protocol. Synchronous, so
 * that a crash loses no line. Without what looks like a credential, and words that begin with one
 * of `secretPrefixes`.
 */
export function createLog(
  level: string,
  role: string,
  secretPrefixes: () => readonly string[] = () => [],
): Log {
  const lines = pino.destination({ fd: 2, sync: true, maxLength: waitingBytesMax })
  // Without a listener, a line that finds no room would end the process.
  lines.on("error", () => {})
  // A line may quote what an agent wrote, and people read it on a terminal. Quotes and escapes of
  // its JSON are left as they are.
  const shown = (line: string): string =>
    withoutWordsOf(redacted(stripped(line)), wordsWith(secretPrefixes()))
  return pino({ level, base: { role, pid: process.pid }, hooks: { streamWrite: shown } }, lines)
}

const fullDiskLineMs = 60_000

/**
 * Tells what the parts of the control plane fail at. Of a full disk, at which all of them fail
 * again and again, one line a minute.
 */
export function createReporter(log: Log): (part: string) => (key: string, error: unknown) => void {
  let toldAtMs = Number.NEGATIVE_INFINITY
  let untold = 0
  return (part) => (key, error) => {
    if (error instanceof DiskFull) {
      untold += 1
      if (performance.now() - toldAtMs < fullDiskLineMs) return
      log.error({ failures: untold }, error.message)
      toldAtMs = performance.now()
      untold = 0
      return
    }
    // A conflict is the ordinary way of learning that somebody else was first; it is tried again at
    // once.
    const expected = error instanceof Fault && error.code === "Conflict"
    log[expected ? "debug" : "error"]({ part, key, err: error }, "reconciling failed")
  }
}
