import { dollarsOf } from "../../core/budget.ts"
import { charactersOf, clean, oneLine } from "../../core/view.ts"
import type { Fleet, FleetRow, Screen, State } from "./state.ts"

/** The screen as lines: state and size in, exactly as many lines as the screen has out. */

export interface Size {
  readonly columns: number
  readonly rows: number
}
export interface ScreenLine {
  readonly text: string
  readonly style?: "title" | "head" | "selected" | "good" | "alarm" | "faint"
}

/** The keys of each view, from the wordiest to the shortest: the first that fits is shown. */
const keysOf: Readonly<Record<Screen["kind"], readonly string[]>> = {
  fleet: [
    "up/down: select  p: pause  r: resume  s: stop  m: message  i: inspect  l: logs  q: quit",
    "p: pause  r: resume  s: stop  m: message  i: inspect  l: logs  q: quit",
    "p pause  r resume  s stop  m tell  i look  l logs  q quit",
  ],
  stop: ["y: stop it  any other key: leave it alone", "y: stop  other keys: no"],
  message: [
    "enter: send, it is read at the next tool call  esc: leave  ctrl-u: begin again",
    "enter: send  esc: leave  ctrl-u: begin again",
  ],
  text: ["up/down: scroll  end: follow  esc or q: back"],
}
/** Needs a person, or has failed. */
const alarming = new Set([
  "NeedsAnswer",
  "Blocked",
  "Failed",
  "CrashLoop",
  "BudgetReached",
  "Held",
  "Unknown",
])

/** At most so many characters. */
const cut = (text: string, columns: number): string => {
  const letters = charactersOf(text)
  return letters.length <= columns
    ? text
    : `${letters.slice(0, Math.max(0, columns - 1)).join("")}…`
}
/** All of a text, in as many lines as it needs. */
const broken = (text: string, columns: number): readonly string[] => {
  const letters = [...text]
  const count = Math.max(1, Math.ceil(letters.length / columns))
  return Array.from({ length: count }, (_, at) =>
    letters.slice(at * columns, (at + 1) * columns).join(""),
  )
}
/** Text that others write, as one line of characters that stay where they are put. */
const line = (text: string, columns: number): string => cut(oneLine(text, 4 * columns), columns)
/** As `cut`, but with the end of the text: names of one project differ there. */
const cutInside = (text: string, columns: number): string => {
  const letters = [...oneLine(text, 4 * columns)]
  if (letters.length <= columns || columns < 8) return line(text, columns)
  const tail = Math.floor((columns - 1) / 3)
  return `${letters.slice(0, columns - 1 - tail).join("")}…${letters.slice(-tail).join("")}`
}
/** A text broken between words into at most so many lines. */
function wrapped(text: string, columns: number, linesMax: number): readonly string[] {
  const lines: string[] = [""]
  for (const word of oneLine(text, columns * linesMax).split(" ")) {
    const longer = [lines.at(-1) ?? "", word].filter((part) => part !== "").join(" ")
    if (longer.length <= columns || lines.at(-1) === "") lines.splice(-1, 1, longer)
    else lines.push(word)
  }
  return lines.length <= linesMax
    ? lines.map((one) => cut(one, columns))
    : [...lines.slice(0, linesMax - 1), cut(lines.slice(linesMax - 1).join(" "), columns)].map(
        (one) => cut(one, columns),
      )
}

/** From these widths on there is room for more. */
const widths = { numbers: 70, project: 100 }
/** Below this height every line is needed for the table. */
const detailRowsMin = 14
const detailLines = 2

const dollars = ({ usd, budgetUsd }: FleetRow, withBudget: boolean): string =>
  usd === undefined ? "" : dollarsOf(usd, withBudget ? budgetUsd : undefined)

/**
 * What it does, where it does something; else why it does not, without the phase, which has a
 * column of its own.
 */
function nowOf({ phase, activity, why }: FleetRow): string {
  if (phase === "Running" && activity) return activity
  return why.startsWith(phase) ? why.slice(phase.length).replace(/^[:;,.] */, "") || why : why
}

/** Of a list, the part of that height around one of its places. */
const around = <T>(all: readonly T[], at: number, height: number): readonly T[] => {
  const start = Math.min(Math.max(0, at - Math.floor(height / 2)), Math.max(0, all.length - height))
  return all.slice(start, start + height)
}

interface Column {
  readonly head: string
  cell(row: FleetRow): string
}
function columnsFor(columns: number): readonly Column[] {
  const numbers = columns >= widths.numbers
  return [
    { head: "NAME", cell: ({ name }) => name },
    ...(columns >= widths.project
      ? [{ head: "PROJECT", cell: ({ project }: FleetRow) => project }]
      : []),
    { head: "PHASE", cell: ({ phase }) => phase },
    ...(numbers
      ? [
          {
            head: "ITER",
            cell: ({ iteration }: FleetRow) => (iteration === undefined ? "" : String(iteration)),
          },
        ]
      : []),
    { head: "USED", cell: (row) => dollars(row, numbers) },
    { head: "NOW", cell: nowOf },
  ]
}

const styleOf = (phase: string): ScreenLine["style"] => {
  if (alarming.has(phase)) return "alarm"
  return phase === "Running" ? "good" : undefined
}

interface Table {
  readonly lines: readonly ScreenLine[]
  /** Whether the selected row says less than there is to say. */
  readonly isCut: boolean
}

function table(fleet: Fleet, selected: string | undefined, { columns, rows }: Size): Table {
  const all = columnsFor(columns)
  const at = fleet.rows.findIndex(({ name }) => name === selected)
  const shown = around(fleet.rows, at, rows - 1)
  const cells = shown.map((row) => all.map(({ cell }) => cell(row)))
  // The last column takes what is left; no other takes more than a quarter.
  const fixed = all.slice(0, -1).map(({ head }, column) => {
    const longest = Math.max(head.length, ...cells.map((row) => row[column]?.length ?? 0))
    return Math.min(longest, Math.max(head.length, Math.floor(columns / 4)))
  })
  const fit = (text: string, column: number): string => {
    const width = fixed[column]
    if (width === undefined) return line(text, columns)
    return (column === 0 ? cutInside(text, width) : line(text, width)).padEnd(width)
  }
  const lineOf = (row: readonly string[]): string => row.map(fit).join("  ").trimEnd()
  const lines = shown.map(({ name, phase }, index): ScreenLine => {
    const chosen = name === selected
    const text = cut(`${chosen ? ">" : " "} ${lineOf(cells[index] ?? [])}`, columns)
    if (chosen) return { text: text.padEnd(columns), style: "selected" }
    const style = styleOf(phase)
    return style === undefined ? { text } : { text, style }
  })
  const chosen = shown.findIndex(({ name }) => name === selected)
  const room = columns - 2 - fixed.reduce((sum, width) => sum + width + 2, 0)
  return {
    lines: [
      { text: cut(`  ${lineOf(all.map(({ head }) => head))}`, columns), style: "head" },
      ...lines,
    ],
    isCut:
      (cells[chosen]?.at(-1)?.length ?? 0) > room ||
      (cells[chosen]?.[0]?.length ?? 0) > (fixed[0] ?? 0),
  }
}

function fleetLines(
  { fleet, selected }: State,
  size: Size,
  program: string,
): readonly ScreenLine[] {
  const { columns, rows } = size
  if (!fleet) return [{ text: "Asking serve ..." }]
  const part =
    fleet.rows.length < fleet.total ? `; ${fleet.rows.length} of ${fleet.total} shown` : ""
  const above: ScreenLine[] = [
    { text: line(fleet.headline, columns), style: "title" },
    { text: line(`${fleet.turns}${part}`, columns), style: "faint" },
    ...(fleet.warning === undefined
      ? []
      : [{ text: line(fleet.warning, columns), style: "alarm" } as const]),
    { text: "" },
  ]
  if (fleet.rows.length === 0)
    return [
      ...above,
      { text: cut("There are no agents. To start one, type in a shell:", columns) },
      { text: "" },
      ...broken(`${program} spawn-instance --project NAME --goal "…"`, columns).map((text) => ({
        text,
      })),
    ]
  const detail = rows >= detailRowsMin ? detailLines : 0
  const height = Math.max(2, rows - above.length - detail)
  const { lines, isCut } = table(fleet, selected, { columns, rows: height })
  const chosen = fleet.rows.find(({ name }) => name === selected)
  // All that the selected row has no room for, below the table.
  const more =
    isCut && chosen && detail > 0
      ? wrapped(`${chosen.name}: ${nowOf(chosen)}`, columns, detail)
      : []
  const blank = Array.from(
    { length: Math.max(0, height - lines.length) },
    (): ScreenLine => ({ text: "" }),
  )
  return [
    ...above,
    ...lines,
    ...blank,
    ...more.map((text): ScreenLine => ({ text, style: "faint" })),
  ]
}

function textLines(
  { of, name, lines, above }: Extract<Screen, { kind: "text" }>,
  { columns, rows }: Size,
): readonly ScreenLine[] {
  const height = Math.max(1, rows - 2)
  const end = Math.max(Math.min(height, lines.length), lines.length - above)
  const title = of === "logs" ? `${name}: what its loop printed` : name
  return [
    { text: line(title, columns), style: "title" },
    { text: "" },
    ...(lines.length === 0
      ? [{ text: "Asking serve ..." }]
      : lines.slice(Math.max(0, end - height), end).map((text) => ({ text: cut(text, columns) }))),
  ]
}

/** The end of the line is what is being written. */
function editor({ to, text, at }: Extract<Screen, { kind: "message" }>, columns: number): string {
  const letters = charactersOf(text)
  const prompt = `To ${to}: `
  const room = Math.max(1, columns - prompt.length - 1)
  const start = Math.max(0, at - room + 1)
  return clean(
    prompt + [...letters.slice(start, at), "▏", ...letters.slice(at)].slice(0, room).join(""),
  )
}

/**
 * The whole screen, from its first line to its last. `program` is what starts this program in a
 * shell.
 */
export function draw(
  state: State,
  { columns, rows }: Size,
  program = "blackbox5",
): readonly ScreenLine[] {
  const { view } = state
  const height = Math.max(0, rows - 2)
  const body =
    view.kind === "text"
      ? textLines(view, { columns, rows: height })
      : fleetLines(state, { columns, rows: height }, program)
  const filled = Array.from({ length: height }, (_, at): ScreenLine => body[at] ?? { text: "" })
  const keys = keysOf[view.kind]
  const bar = keys.find((one) => one.length <= columns) ?? keys.at(-1) ?? ""
  return [
    ...filled,
    statusOf(state, columns),
    { text: cut(bar, columns), style: "faint" } as const,
  ].slice(-Math.max(0, rows))
}

/**
 * What is being asked or written; else what keeps the table from being new; else what became of the
 * last order.
 */
function statusOf({ view, trouble, notice }: State, columns: number): ScreenLine {
  if (view.kind === "message") return { text: editor(view, columns), style: "title" }
  if (view.kind === "stop")
    return { text: line(`Stop ${view.name}? Its iteration ends at once.`, columns), style: "alarm" }
  return trouble === undefined
    ? { text: line(notice, columns) }
    : { text: line(trouble, columns), style: "alarm" }
}
