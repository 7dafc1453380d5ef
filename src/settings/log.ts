import { type Logger, pino } from "pino"
import { DiskFull, Fault } from "../core/faults.ts"
import { redacted, withoutWordsOf, wordsWith } from "../core/secrets.ts"
import { stripped } from "../core/view.ts"

export type Log = Logger

/** Buffered while the log's own disk is full; later lines are dropped. */
const waitingBytesMax = 1_048_576

/**
 * Structured lines on stderr, because stdout belongs to results and to MCP. Synchronous, so that a
 * crash loses no line. Anything that looks like a credential, or begins with one of
 * `secretPrefixes`, is redacted.
 */
export function createLog(
  level: string,
  role: string,
  secretPrefixes: () => readonly string[] = () => [],
): Log {
  const lines = pino.destination({ fd: 2, sync: true, maxLength: waitingBytesMax })
  // Without a listener, a failed write would end the process.
  lines.on("error", () => {})
  // A line may quote an agent, and people read it on a terminal. The JSON syntax stays intact.
  const shown = (line: string): string =>
    withoutWordsOf(redacted(stripped(line)), wordsWith(secretPrefixes()))
  return pino({ level, base: { role, pid: process.pid }, hooks: { streamWrite: shown } }, lines)
}

const fullDiskLineMs = 60_000

/**
 * Logs the failures of the control plane's parts. On a full disk all of them fail again and again,
 * so that is logged once a minute.
 */
export function createReporter(log: Log): (part: string) => (key: string, error: unknown) => void {
  let loggedAtMs = Number.NEGATIVE_INFINITY
  let failures = 0
  return (part) => (key, error) => {
    if (error instanceof DiskFull) {
      failures += 1
      if (performance.now() - loggedAtMs < fullDiskLineMs) return
      log.error({ failures }, error.message)
      loggedAtMs = performance.now()
      failures = 0
      return
    }
    // A conflict only means that somebody else wrote first; it is retried at once.
    const expected = error instanceof Fault && error.code === "Conflict"
    log[expected ? "debug" : "error"]({ part, key, err: error }, "reconciling failed")
  }
}
