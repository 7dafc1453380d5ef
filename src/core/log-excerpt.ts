import type { Instance } from "./instance.ts"
import { isoOf } from "./moment.ts"
import type { LogLine, LogSource } from "./ports.ts"
import { redactedLines } from "./secrets.ts"
import type { ToolContext } from "./tool.ts"
import { bounded, counted, countWithin, leftOut, stripped } from "./view.ts"

const lineCharactersMax = 4000
/** How far a search looks in one call. */
export const searchedMax = 20_000

interface Query {
  readonly source: LogSource
  /** The last lines that match; with `after` the first ones after that cursor. */
  readonly count: number
  readonly bytesMax: number
  readonly after?: string
  readonly sinceMs?: number
  readonly grep?: string
}
export interface LogExcerpt {
  readonly count: number
  readonly text: string
  /** Goes on after the last line of the text. */
  readonly cursor: string
  /** What was left out, in words. */
  readonly cut: string | undefined
  /** Lines right after the cursor of the query are gone. */
  readonly lost?: true | undefined
}

/**
 * Lines of an instance that match, as text: never more than `bytesMax`; of the last lines the
 * newest, after a cursor the oldest.
 */
export async function readExcerpt(
  { logs }: ToolContext,
  { name, uid }: Instance,
  query: Query,
): Promise<LogExcerpt> {
  const { source, count, bytesMax, after, sinceMs, grep } = query
  const page = await logs(
    { name, uid },
    {
      source,
      lines: grep === undefined ? count : searchedMax,
      ...(after !== undefined && { after }),
      ...(sinceMs !== undefined && { sinceMs }),
    },
  )
  // First, so that colour codes inside a word do not hide it from the search, and that a search
  // finds no line inside a key.
  const texts = redactedLines(page.lines.map(({ text }) => stripped(text)))
  const matching = page.lines
    .map((line, index) => ({ ...line, text: texts[index] ?? "" }))
    .filter(({ text }) => grep === undefined || text.includes(grep))
  return after === undefined
    ? lastOf(matching, page.lines.length, page.cursor, query)
    : firstOf(matching, page, { count, bytesMax })
}

const shown = ({ atMs, text }: LogLine): string =>
  `${isoOf(atMs)} ${bounded(text, lineCharactersMax)}`
/** How many of these fit, the first ones first. */
const fitting = (lines: readonly string[], bytesMax: number): number =>
  countWithin(lines, bytesMax, (line) => line)

function lastOf(
  matching: readonly LogLine[],
  read: number,
  cursor: string,
  { count, bytesMax, grep }: Pick<Query, "count" | "bytesMax" | "grep">,
): LogExcerpt {
  const kept = matching.slice(-count).map(shown)
  const fit = fitting(kept.toReversed(), bytesMax)
  const cuts = [
    ...(grep === undefined && read >= count
      ? [`older than the last ${counted(count, "line")}`]
      : []),
    ...(grep !== undefined && matching.length > count
      ? [`${counted(matching.length - count, "older match", "older matches")}`]
      : []),
    ...(read >= searchedMax ? [`only the newest ${searchedMax} lines were searched`] : []),
    ...(fit < kept.length
      ? [`${counted(kept.length - fit, "older line")} beyond ${bytesMax} bytes`]
      : []),
  ]
  return {
    count: fit,
    text: kept.slice(kept.length - fit).join("\n"),
    cursor,
    cut: leftOut(cuts),
  }
}

function firstOf(
  matching: readonly LogLine[],
  {
    cursor,
    lost,
    more,
  }: { readonly cursor: string; readonly lost: boolean; readonly more: boolean },
  { count, bytesMax }: Pick<Query, "count" | "bytesMax">,
): LogExcerpt {
  const kept = matching.slice(0, count)
  const texts = kept.map(shown)
  const fit = fitting(texts, bytesMax)
  const last = fit < matching.length ? kept[fit - 1] : undefined
  const cuts = [
    ...(lost
      ? [
          "lines right after that cursor: they are gone, so this begins with the oldest that is kept",
        ]
      : []),
    ...(last || more ? ["newer lines: call again with cursor as after"] : []),
  ]
  return {
    count: fit,
    text: texts.slice(0, fit).join("\n"),
    cursor: last?.cursor ?? cursor,
    cut: leftOut(cuts),
    lost: lost || undefined,
  }
}
