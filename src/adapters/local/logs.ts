import { basename } from "node:path"
import { Fault } from "../../core/faults.ts"
import type { LogLine, LogPage, LogSource, Logs } from "../../core/ports.ts"
import { runDirectory } from "../../run/run-directory.ts"
import { runsOf } from "../../run/runs.ts"
import { type LineFile, type LogChunk, openLines } from "./line-file.ts"
import { transcriptLines } from "./transcript.ts"

/**
 * How much of the end of one file is read for the last lines, at the most; it begins with the
 * first.
 */
const tailBytesMax = 4 * 1024 * 1024
const tailBytesMin = 128 * 1024
/** How much is read after a cursor in one call. */
const forwardBytesMax = 16 * 1024 * 1024

/** One file of a source, named so that a cursor finds it again after it was rotated. */
interface Part extends Disposable {
  readonly id: string
  readonly file: LineFile
}
type Render = (text: string) => readonly Omit<LogLine, "cursor">[]

const loopLine: Render = (line) => {
  const space = line.indexOf(" ")
  return [{ atMs: Date.parse(line.slice(0, space)) || 0, text: line.slice(space + 1) }]
}
const renderers: Record<LogSource, Render> = { loop: loopLine, transcript: transcriptLines }

/**
 * A line of a log begins with its moment: that of the first line names the file, also when it is
 * `log.1` by now.
 */
const stampLength = "2026-01-01T00:00:00.000Z".length

function loopParts(run: string): readonly Part[] {
  const { log } = runDirectory(run)
  // The current part first: if it is rotated between the two calls, the second one opens the same
  // file again, and only the oldest is missed.
  const opened = [openLines(log), openLines(`${log}.1`)]
  const ids = new Set<string>()
  return opened
    .flatMap((file): Part[] => {
      if (!file) return []
      const id = `${basename(run)}.${Date.parse(file.head(stampLength)) || 0}`
      if (file.bytes === 0 || ids.has(id)) {
        file[Symbol.dispose]()
        return []
      }
      ids.add(id)
      return [{ id, file, [Symbol.dispose]: () => file[Symbol.dispose]() }]
    })
    .toReversed()
}

/**
 * Only a regular file with the name that Claude Code gives: what an agent says of its transcript is
 * not believed further.
 */
const transcriptName = /^([\w-]{1,64})\.jsonl$/

const transcriptParts = (run: string): readonly Part[] =>
  (runDirectory(run).get("transcripts")?.paths ?? []).flatMap((path): Part[] => {
    const [, id] = transcriptName.exec(basename(path)) ?? []
    const file = id === undefined ? undefined : openLines(path)
    return id !== undefined && file
      ? [{ id, file, [Symbol.dispose]: () => file[Symbol.dispose]() }]
      : []
  })

/**
 * `<file>~<offset>`, and `.<lines>` where some lines of the record at that offset were given
 * already.
 */
interface Position {
  readonly id: string
  readonly offset: number
  readonly given: number
}
const cursorOf = ({ id, offset, given }: Position): string =>
  `${id}~${offset}${given > 0 ? `.${given}` : ""}`
function positionAt(cursor: string): Position {
  const [, id, offset, given] = /^([\w.-]{1,128})~(\d{1,15})(?:\.(\d{1,6}))?$/.exec(cursor) ?? []
  if (id === undefined)
    throw new Fault(
      "Invalid",
      "Invalid log cursor.",
      "Use the cursor of the last answer, or omit after.",
    )
  return { id, offset: Number(offset), given: Number(given ?? 0) }
}

function linesOf(id: string, { text, start, end }: LogChunk, render: Render): readonly LogLine[] {
  const lines = render(text)
  return lines.map((line, index) => ({
    ...line,
    cursor: cursorOf(
      index === lines.length - 1
        ? { id, offset: end, given: 0 }
        : { id, offset: start, given: index + 1 },
    ),
  }))
}

/** The last lines of a part, and where its last whole line ends. */
function tail(
  { id, file }: Part,
  count: number,
  render: Render,
): { lines: readonly LogLine[]; end: number } {
  for (let bytes = tailBytesMin; ; bytes *= 4) {
    const start = Math.max(0, file.bytes - bytes)
    const lines: LogLine[] = []
    let end = start
    for (const piece of file.lines(start)) {
      lines.push(...linesOf(id, piece, render))
      end = piece.end
    }
    if (lines.length >= count || start === 0 || bytes >= tailBytesMax)
      return { lines: lines.slice(-count), end }
  }
}

function lastPage(parts: readonly Part[], count: number, render: Render): LogPage {
  const lines: LogLine[] = []
  let cursor: string | undefined
  for (const part of parts.toReversed()) {
    if (lines.length >= count) break
    const found = tail(part, count - lines.length, render)
    lines.unshift(...found.lines)
    cursor ??= cursorOf({ id: part.id, offset: found.end, given: 0 })
  }
  return { lines, cursor: cursor ?? "", lost: false, more: false }
}

function nextPage(parts: readonly Part[], after: string, count: number, render: Render): LogPage {
  const position = after === "" ? undefined : positionAt(after)
  const at = parts.findIndex(({ id, file }) => id === position?.id && position.offset <= file.bytes)
  const lost = position !== undefined && at < 0
  const lines: LogLine[] = []
  let cursor = lost ? "" : after
  let bytes = 0
  for (const { id, file } of parts.slice(Math.max(0, at))) {
    const from = position && !lost && position.id === id ? position : { id, offset: 0, given: 0 }
    for (const piece of file.lines(from.offset)) {
      const found = linesOf(id, piece, render).slice(piece.start === from.offset ? from.given : 0)
      for (const line of found) {
        if (lines.length >= count) return { lines, cursor, lost, more: true }
        lines.push(line)
        cursor = line.cursor
      }
      cursor = cursorOf({ id, offset: piece.end, given: 0 })
      bytes += piece.end - piece.start
      if (bytes > forwardBytesMax) return { lines, cursor, lost, more: true }
    }
  }
  return { lines, cursor, lost, more: false }
}

/** Lines from the run directories, and from the transcripts that they name. */
export const localLogs = (stateDirectory: string): Logs => {
  const partsOf: Record<LogSource, (run: string) => readonly Part[]> = {
    loop: loopParts,
    transcript: transcriptParts,
  }
  return async ({ uid }, { source, lines: count, after, sinceMs }) => {
    using opened = new DisposableStack()
    const parts = runsOf(stateDirectory, uid).flatMap(partsOf[source])
    for (const part of parts) opened.use(part)
    const render = renderers[source]
    const page =
      after === undefined ? lastPage(parts, count, render) : nextPage(parts, after, count, render)
    return sinceMs === undefined
      ? page
      : { ...page, lines: page.lines.filter(({ atMs }) => atMs >= sinceMs) }
  }
}
