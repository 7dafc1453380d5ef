import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs"

/** A file that grows by lines, read while somebody writes it: only what is whole counts. */
export interface LineFile extends Disposable {
  readonly bytes: number
  /** The first bytes, as text. */
  head(bytesMax: number): string
  /**
   * The whole lines after an offset, each with where it begins and ends. An offset in the middle of
   * a line goes on with the next one.
   */
  lines(offset: number): Iterable<LogChunk>
}
export interface LogChunk {
  readonly text: string
  readonly start: number
  readonly end: number
}

const chunkBytes = 256 * 1024
/**
 * A longer line is left out: it is no text that anybody wrote or reads (an image in a transcript).
 */
export const lineBytesMax = 4 * 1024 * 1024
const newline = 10

/**
 * Undefined where there is no regular file of that very name: a symbolic link is not followed, a
 * FIFO not waited for.
 */
export function openLines(path: string): LineFile | undefined {
  let file: number
  try {
    file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch {
    return undefined
  }
  const stat = fstatSync(file)
  if (!stat.isFile()) {
    closeSync(file)
    return undefined
  }
  const bytes = stat.size
  const read = (start: number, length: number): Buffer => {
    const buffer = Buffer.allocUnsafe(Math.max(0, Math.min(length, bytes - start)))
    return buffer.subarray(0, readSync(file, buffer, 0, buffer.length, start))
  }
  return {
    bytes,
    head: (bytesMax) => read(0, bytesMax).toString("utf8"),
    *lines(offset) {
      let parts: Buffer[] = []
      let length = 0
      // From the byte before, which says whether the offset is where a line begins.
      let start = Math.max(0, offset - 1)
      let skipping = offset > 0
      for (let at = start; at < bytes; ) {
        const chunk = read(at, chunkBytes)
        if (chunk.length === 0) return // it was cut off meanwhile
        let from = 0
        for (let to = chunk.indexOf(newline); to >= 0; to = chunk.indexOf(newline, from)) {
          const end = at + to + 1
          if (!skipping && length + to - from <= lineBytesMax)
            yield {
              text: Buffer.concat([...parts, chunk.subarray(from, to)]).toString("utf8"),
              start,
              end,
            }
          skipping = false
          parts = []
          length = 0
          start = end
          from = to + 1
        }
        const rest = chunk.subarray(from)
        length += rest.length
        if (length > lineBytesMax) {
          skipping = true
          parts = []
        } else if (!skipping) parts.push(rest)
        at += chunk.length
      }
    },
    [Symbol.dispose]: () => closeSync(file),
  }
}
