import type { Readable } from "node:stream"

/** Longer lines are skipped. */
export const messageBytesMax = 4_194_304

/**
 * Calls `take` with each line of the stream, holding at most one in memory, and `tooLong` for a
 * line that it skips. Resolves when the stream ends or breaks, or the signal aborts.
 */
export function readLines(
  input: Readable,
  signal: AbortSignal,
  take: (line: string) => void,
  tooLong: () => void,
): Promise<void> {
  const parts: Buffer[] = []
  let bytes = 0
  let skipping = false
  const add = (part: Buffer): void => {
    if (skipping) return
    bytes += part.length
    if (bytes > messageBytesMax) {
      skipping = true
      parts.length = 0
      tooLong()
    } else parts.push(part)
  }
  const finish = (): void => {
    const line = Buffer.concat(parts).toString("utf8")
    parts.length = 0
    bytes = 0
    if (!skipping) take(line)
    skipping = false
  }
  return new Promise((resolve) => {
    input.on("data", (chunk: Buffer) => {
      let from = 0
      for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
        add(chunk.subarray(from, at))
        finish()
        from = at + 1
      }
      if (from < chunk.length) add(chunk.subarray(from))
    })
    input.once("end", () => {
      finish()
      resolve()
    })
    input.once("close", resolve)
    input.once("error", () => resolve())
    if (signal.aborted) resolve()
    signal.addEventListener("abort", () => resolve(), { once: true })
  })
}
