// @ts-expect-error cliui has no types; `Table` below is the part of it that is used here.
import cliui from "cliui"
import type { TextRow } from "../core/tool.ts"
import { clean, fenced, oneLine } from "../core/view.ts"
import { kebab } from "./flags.ts"

/** Text for a terminal of a given width. Without a width, as in a pipe, nothing is wrapped. */

interface Cell {
  readonly text: string
  readonly width?: number
  readonly padding?: readonly [number, number, number, number]
}
interface Table {
  div(...cells: readonly Cell[]): void
  toString(): string
}

/** Wider than any line that `oneLine` allows. */
const unbroken = 4000
const gap = 2
/** A last column that would be narrower goes below its row. */
const lastColumnMin = 28
const cellCharactersMax = 500

export const terminalWidth = (): number | undefined =>
  process.stdout.isTTY ? process.stdout.columns : undefined

/**
 * Aligned columns. The last takes what is left or, if that is too narrow, goes below the others.
 */
export function columns(
  rows: readonly (readonly string[])[],
  width: number | undefined,
  indent = 0,
): string {
  const count = Math.max(0, ...rows.map((row) => row.length))
  const widths = Array.from(
    { length: count - 1 },
    (_, at) => Math.max(...rows.map((row) => row[at]?.length ?? 0)) + gap,
  )
  const first = indent + widths.reduce((sum, one) => sum + one, 0)
  const ui: Table = cliui({ width: width ?? unbroken, wrap: true })
  const cells = (row: readonly string[]): readonly Cell[] =>
    widths.map((cell, at) =>
      at === 0
        ? { text: row[at] ?? "", width: cell + indent, padding: [0, 0, 0, indent] }
        : { text: row[at] ?? "", width: cell },
    )
  if (width === undefined || width - first >= lastColumnMin) {
    for (const row of rows) ui.div(...cells(row), { text: row[count - 1] ?? "" })
    return ui.toString()
  }
  const lines = rows.flatMap((row) => {
    const above =
      " ".repeat(indent) + widths.map((cell, at) => (row[at] ?? "").padEnd(cell)).join("")
    const last = row[count - 1] ?? ""
    return [above.trimEnd(), ...(last === "" ? [] : [paragraph(last, width, indent + 2 * gap)])]
  })
  return lines.join("\n")
}

/** A text wrapped between words. */
export function paragraph(text: string, width: number | undefined, indent = 0): string {
  const ui: Table = cliui({ width: width ?? unbroken, wrap: true })
  ui.div({ text, padding: [0, 0, 0, indent] })
  return ui.toString()
}

const fences = /<untrusted-(\w+)>\n([\s\S]*?)\n<\/untrusted-\1>/g
/** A text as one line. A fenced text is cut inside its fence, so that the fence stays closed. */
function cellText(text: string): string {
  if (text.search(fences) < 0) return oneLine(text, cellCharactersMax)
  return clean(
    text.replace(fences, (_, nonce: string, inner: string) =>
      fenced(oneLine(inner, cellCharactersMax), nonce),
    ),
  ).replace(/\s+/g, " ")
}

/** Rows below a heading made of their keys. */
export function tableOf(rows: readonly TextRow[], width: number | undefined): string {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))]
  const heads = names.map((name) => kebab(name).replaceAll("-", " ").toUpperCase())
  return columns(
    [heads, ...rows.map((row) => names.map((name) => cellText(String(row[name] ?? ""))))],
    width,
  )
}
