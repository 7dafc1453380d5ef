import type { Instance } from "../src/core/instance.ts"
import type { LogLine } from "../src/core/ports.ts"
import type { ToolContext } from "../src/core/tool.ts"
import { bounded, clean } from "../src/core/view.ts"
import { isoOf } from "./moments.ts"

const lineCharactersMax = 4000
/** How far back a search looks. */
export const searchedMax = 20_000

interface Query {
  readonly tail: number
  readonly bytesMax: number
  readonly sinceMs?: number
  readonly grep?: string
}
export interface Logged {
  readonly count: number
  readonly text: string
  /** What was left out, in words. */
  readonly cut?: string
}

/** The last lines of an instance's loop that match, as text: never more than `bytesMax`, and of those the newest. */
export async function loggedOf({ logs, signal }: ToolContext, { name, uid }: Instance, query: Query): Promise<Logged> {
  const { tail, bytesMax, sinceMs, grep } = query
  const tailLines = grep === undefined ? tail : searchedMax
  const kept: LogLine[] = []
  let matched = 0
  let read = 0
  for await (const line of logs({ name, uid }, { tailLines, ...(sinceMs !== undefined && { sinceMs }) }, signal)) {
    read++
    const text = clean(line.text) // first, so that colour codes inside a word do not hide it from the search
    if (grep !== undefined && !text.includes(grep)) continue
    matched++
    kept.push({ atMs: line.atMs, text })
    if (kept.length > tail) kept.shift()
  }
  const lines: string[] = []
  let bytes = 0
  for (const { atMs, text } of kept.toReversed()) {
    const line = `${isoOf(atMs)} ${bounded(text, lineCharactersMax)}`
    bytes += new TextEncoder().encode(line).length + 1
    if (bytes > bytesMax) break
    lines.unshift(line)
  }
  const cuts = [
    ...(grep === undefined && read >= tail ? [`older than the last ${tail} lines`] : []),
    ...(grep !== undefined && matched > tail ? [`${matched - tail} older matches`] : []),
    ...(read >= searchedMax ? [`what is older than ${searchedMax} lines was not searched`] : []),
    ...(lines.length < kept.length ? [`${kept.length - lines.length} older lines, for more than ${bytesMax} bytes`] : []),
  ]
  return { count: lines.length, text: lines.join("\n"), ...(cuts.length > 0 && { cut: `Left out: ${cuts.join("; ")}.` }) }
}
