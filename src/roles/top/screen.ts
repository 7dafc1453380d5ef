import { charactersOf, clean } from "../../core/view.ts"
import type { ScreenLine, Size } from "./screen-line.ts"
import type { Screen, State } from "./state.ts"
import { currentActivity, fleetTable } from "./table.ts"
import { cell, chopped, cutTo, wrapped } from "./text.ts"

/** Turns state and size into exactly as many lines as the screen has. */

/** The keys of each view, longest first: the first that fits is shown. */
const keyHints: Readonly<Record<Screen["kind"], readonly string[]>> = {
  fleet: [
    "up/down: select  p: pause  r: resume  s: stop  m: message  i: inspect  l: logs  q: quit",
    "p: pause  r: resume  s: stop  m: message  i: inspect  l: logs  q: quit",
    "p pause  r resume  s stop  m message  i info  l logs  q quit",
  ],
  stop: ["y: stop it  any other key: cancel", "y: stop  other keys: cancel"],
  message: [
    "enter: send (read at the next tool call)  esc: discard  ctrl-u: clear",
    "enter: send  esc: discard  ctrl-u: clear",
  ],
  text: ["up/down: scroll  end: follow  esc or q: back"],
}
/** On a lower screen, the table needs every line. */
const detailRowsMin = 14
const detailLines = 2

function fleetLines(
  { fleet, selected }: State,
  size: Size,
  program: string,
): readonly ScreenLine[] {
  const { columns, rows } = size
  if (!fleet) return [{ text: "Waiting for serve ..." }]
  const part =
    fleet.rows.length < fleet.total ? `; ${fleet.rows.length} of ${fleet.total} shown` : ""
  const above: ScreenLine[] = [
    { text: cell(fleet.headline, columns), style: "title" },
    { text: cell(`${fleet.turns}${part}`, columns), style: "faint" },
    ...(fleet.warning === undefined
      ? []
      : [{ text: cell(fleet.warning, columns), style: "alarm" } as const]),
    { text: "" },
  ]
  if (fleet.rows.length === 0)
    return [
      ...above,
      { text: cutTo("There are no agents. To start one, run in a shell:", columns) },
      { text: "" },
      ...chopped(`${program} spawn-instance --project NAME --goal "…"`, columns).map((text) => ({
        text,
      })),
    ]
  const detail = rows >= detailRowsMin ? detailLines : 0
  const height = Math.max(2, rows - above.length - detail)
  const { lines, isCut } = fleetTable(fleet, selected, { columns, rows: height })
  const chosen = fleet.rows.find(({ name }) => name === selected)
  // Below the table, what the selected row has no room for.
  const more =
    isCut && chosen && detail > 0
      ? wrapped(`${chosen.name}: ${currentActivity(chosen)}`, columns, detail)
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
  const title = of === "logs" ? `${name}: output of its loop` : name
  return [
    { text: cell(title, columns), style: "title" },
    { text: "" },
    ...(lines.length === 0
      ? [{ text: "Waiting for serve ..." }]
      : lines
          .slice(Math.max(0, end - height), end)
          .map((text) => ({ text: cutTo(text, columns) }))),
  ]
}

/** Scrolled so that the cursor is visible. */
function editor({ to, text, at }: Extract<Screen, { kind: "message" }>, columns: number): string {
  const letters = charactersOf(text)
  const prompt = `To ${to}: `
  const room = Math.max(1, columns - prompt.length - 1)
  const start = Math.max(0, at - room + 1)
  return clean(
    prompt + [...letters.slice(start, at), "▏", ...letters.slice(at)].slice(0, room).join(""),
  )
}

/** The whole screen. `program` is what starts this program in a shell. */
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
  const keys = keyHints[view.kind]
  const bar = keys.find((one) => one.length <= columns) ?? keys.at(-1) ?? ""
  return [
    ...filled,
    statusLine(state, columns),
    { text: cutTo(bar, columns), style: "faint" } as const,
  ].slice(-Math.max(0, rows))
}

/** The open question or message; else why the table is out of date; else the last result. */
function statusLine({ view, trouble, notice }: State, columns: number): ScreenLine {
  if (view.kind === "message") return { text: editor(view, columns), style: "title" }
  if (view.kind === "stop")
    return {
      text: cell(`Stop ${view.name}? This ends its iteration at once.`, columns),
      style: "alarm",
    }
  return trouble === undefined
    ? { text: cell(notice, columns) }
    : { text: cell(trouble, columns), style: "alarm" }
}
