import { dollarsOf } from "../../core/budget.ts"
import { charactersOf, clean, oneLine } from "../../core/view.ts"
import type { Fleet, Row, State, View } from "./state.ts"

/** The screen as lines: state and size in, exactly as many lines as the screen has out. */

export interface Size {
  readonly columns: number
  readonly rows: number
}
export interface Line {
  readonly text: string
  readonly style?: "title" | "head" | "selected" | "good" | "alarm" | "faint"
}

const keysOf: Readonly<Record<View["kind"], string>> = {
  fleet: "up/down: select  p: pause  r: resume  m: message  i: inspect  l: logs  q: quit",
  message: "enter: send, it is read at the next tool call  esc: leave  ctrl-u: begin again",
  text: "up/down: scroll  end: follow  esc or q: back",
}
/** Needs a person, or has failed. */
const alarming = new Set(["NeedsAnswer", "Blocked", "Failed", "CrashLoop", "BudgetReached", "Held", "Unknown"])

/** At most so many characters. */
const cut = (text: string, columns: number): string => {
  const letters = charactersOf(text)
  return letters.length <= columns ? text : `${letters.slice(0, Math.max(0, columns - 1)).join("")}…`
}
/** All of a text, in as many lines as it needs. */
const broken = (text: string, columns: number): readonly string[] => {
  const letters = [...text]
  const count = Math.max(1, Math.ceil(letters.length / columns))
  return Array.from({ length: count }, (_, at) => letters.slice(at * columns, (at + 1) * columns).join(""))
}
/** Text that others write, as one line of characters that stay where they are put. */
const line = (text: string, columns: number): string => cut(oneLine(text, 4 * columns), columns)
const dollars = ({ usd, budgetUsd }: Row): string => (usd === undefined ? "" : dollarsOf(usd, budgetUsd))

/** Of a list, the part of that height around one of its places. */
const around = <T>(all: readonly T[], at: number, height: number): readonly T[] => {
  const start = Math.min(Math.max(0, at - Math.floor(height / 2)), Math.max(0, all.length - height))
  return all.slice(start, start + height)
}

function table(fleet: Fleet, selected: string | undefined, { columns, rows }: Size): readonly Line[] {
  const wide = columns >= 100
  const heads = ["NAME", ...(wide ? ["PROJECT"] : []), "PHASE", "ITER", "USED", "NOW"]
  const cellsOf = (row: Row): readonly string[] => [
    row.name,
    ...(wide ? [row.project] : []),
    row.phase,
    row.iteration === undefined ? "" : String(row.iteration),
    dollars(row),
    // What it does, where it does something; else why it does not.
    row.phase === "Running" && row.activity ? row.activity : row.why,
  ]
  const at = fleet.rows.findIndex(({ name }) => name === selected)
  const shown = around(fleet.rows, at, rows - 1)
  const cells = shown.map(cellsOf)
  // The last column takes what is left; no other takes more than a quarter.
  const widths = heads.slice(0, -1).map((head, column) => {
    const longest = Math.max(head.length, ...cells.map((row) => row[column]?.length ?? 0))
    return Math.min(longest, Math.max(head.length, Math.floor(columns / 4)))
  })
  const lineOf = (row: readonly string[]): string =>
    row
      .map((text, column) =>
        column < widths.length ? line(text, widths[column] ?? 0).padEnd(widths[column] ?? 0) : line(text, columns),
      )
      .join("  ")
  const lines = shown.map(({ name, phase }, index): Line => {
    const chosen = name === selected
    const text = cut(`${chosen ? ">" : " "} ${lineOf(cells[index] ?? []).trimEnd()}`, columns)
    return chosen
      ? { text: text.padEnd(columns), style: "selected" }
      : alarming.has(phase)
        ? { text, style: "alarm" }
        : phase === "Running"
          ? { text, style: "good" }
          : { text }
  })
  return [{ text: cut(`  ${lineOf(heads)}`, columns), style: "head" }, ...lines]
}

function fleetLines({ fleet, selected }: State, size: Size, program: string): readonly Line[] {
  const { columns, rows } = size
  if (!fleet) return [{ text: "Asking serve ..." }]
  const part = fleet.rows.length < fleet.total ? `; ${fleet.rows.length} of ${fleet.total} shown` : ""
  const above: Line[] = [
    { text: line(fleet.headline, columns), style: "title" },
    { text: line(`${fleet.turns}${part}`, columns), style: "faint" },
    ...(fleet.warning === undefined ? [] : [{ text: line(fleet.warning, columns), style: "alarm" } as const]),
    { text: "" },
  ]
  const below: readonly Line[] =
    fleet.rows.length > 0
      ? table(fleet, selected, { columns, rows: Math.max(2, rows - above.length) })
      : [
          { text: cut("There are no agents. To start one, type in a shell:", columns) },
          { text: "" },
          ...broken(`${program} spawn-instance --project NAME --goal "…"`, columns).map((text) => ({ text })),
        ]
  return [...above, ...below]
}

function textLines({ of, name, lines, above }: Extract<View, { kind: "text" }>, { columns, rows }: Size): readonly Line[] {
  const height = Math.max(1, rows - 2)
  const end = Math.max(Math.min(height, lines.length), lines.length - above)
  const title = of === "logs" ? `${name}: what its loop printed` : name
  return [
    { text: line(title, columns), style: "title" },
    { text: "" },
    ...(lines.length === 0
      ? [{ text: "Asking serve ..." }]
      : lines.slice(Math.max(0, end - height), end).map((text) => ({ text }))),
  ]
}

/** The end of the line is what is being written. */
function editor({ to, text, at }: Extract<View, { kind: "message" }>, columns: number): string {
  const letters = charactersOf(text)
  const prompt = `To ${to}: `
  const room = Math.max(1, columns - prompt.length - 1)
  const start = Math.max(0, at - room + 1)
  return clean(prompt + [...letters.slice(start, at), "▏", ...letters.slice(at)].slice(0, room).join(""))
}

/** The whole screen, from its first line to its last. `program` is what starts this program in a shell. */
export function draw(state: State, { columns, rows }: Size, program = "blackbox5"): readonly Line[] {
  const { view, trouble, notice } = state
  const height = Math.max(0, rows - 2)
  const body =
    view.kind === "text" ? textLines(view, { columns, rows: height }) : fleetLines(state, { columns, rows: height }, program)
  const filled = Array.from({ length: height }, (_, at): Line => body[at] ?? { text: "" })
  const status: Line =
    view.kind === "message"
      ? { text: editor(view, columns), style: "title" }
      : trouble !== undefined
        ? { text: line(trouble, columns), style: "alarm" }
        : { text: line(notice, columns) }
  return [...filled, status, { text: cut(keysOf[view.kind], columns), style: "faint" } as const].slice(-Math.max(0, rows))
}
