import { charactersOf, clean } from "../../core/view.ts"

/** What `top` shows, and what a key makes of it. Pure: no terminal, no calls. */

export interface FleetRow {
  readonly name: string
  readonly project: string
  readonly phase: string
  readonly why: string
  readonly activity?: string | undefined
  readonly iteration?: number | undefined
  readonly usd?: number | undefined
  readonly budgetUsd?: number | undefined
}
export interface Fleet {
  readonly headline: string
  readonly turns: string
  readonly warning?: string | undefined
  /** All of them; `rows` may be fewer. */
  readonly total: number
  readonly rows: readonly FleetRow[]
}
export type TextOf = "inspect" | "logs"
export type Screen =
  | { readonly kind: "fleet" }
  /**
   * A line being written to an instance; `at` is the cursor, in characters. While something is
   * pasted, an end of line is no order to send.
   */
  | {
      readonly kind: "message"
      readonly to: string
      readonly text: string
      readonly at: number
      readonly pasting: boolean
    }
  /** Asked whether an instance is to be stopped. */
  | { readonly kind: "stop"; readonly name: string }
  /** `above`: how many lines the end of the text is below the screen; 0 follows it. */
  | {
      readonly kind: "text"
      readonly of: TextOf
      readonly name: string
      readonly lines: readonly string[]
      readonly above: number
    }
export interface State {
  /** Undefined before the first answer. */
  readonly fleet: Fleet | undefined
  /** By name, so that a fleet that changes its order does not move it. */
  readonly selected: string | undefined
  readonly view: Screen
  /** What became of the last order. */
  readonly notice: string
  /** What keeps the table from being new. */
  readonly trouble: string | undefined
}
export type Order =
  | { readonly kind: "pause" | "resume" | "stop"; readonly name: string }
  | { readonly kind: "message"; readonly name: string; readonly text: string }
  /** Look at once: another text is shown. */
  | { readonly kind: "look" }
  | { readonly kind: "quit" }

/** As node:readline tells it. */
export interface Key {
  readonly name?: string | undefined
  readonly ctrl?: boolean | undefined
  readonly meta?: boolean | undefined
  /** The character, where it is one. */
  readonly text?: string | undefined
}

/** A line is for a remark; a long text goes through message-instances. */
const messageMax = 4000
const page = 10

export const empty: State = {
  fleet: undefined,
  selected: undefined,
  view: { kind: "fleet" },
  notice: "",
  trouble: undefined,
}

/** The selection stays with its instance; where that is gone, with its place in the table. */
export function withFleet(state: State, fleet: Fleet): State {
  const at = state.fleet?.rows.findIndex(({ name }) => name === state.selected) ?? 0
  const still = fleet.rows.some(({ name }) => name === state.selected)
  const selected = still
    ? state.selected
    : fleet.rows[Math.min(Math.max(0, at), fleet.rows.length - 1)]?.name
  return { ...state, fleet, selected, trouble: undefined }
}

/**
 * The text of a view that is still open, broken into lines that fit, so that nothing of it is out
 * of reach; it stays where it was scrolled to.
 */
export function withText(
  state: State,
  of: TextOf,
  name: string,
  text: string,
  columns: number,
): State {
  const { view } = state
  if (view.kind !== "text" || view.of !== of || view.name !== name) return state
  const lines = clean(text)
    .split("\n")
    .flatMap((line) => {
      const letters = charactersOf(line.replaceAll("\t", "  "))
      const parts = Math.max(1, Math.ceil(letters.length / columns))
      return Array.from({ length: parts }, (_, part) =>
        letters.slice(part * columns, (part + 1) * columns).join(""),
      )
    })
  const grown = view.above > 0 ? Math.max(0, lines.length - view.lines.length) : 0
  return {
    ...state,
    view: { ...view, lines, above: Math.min(view.above + grown, Math.max(0, lines.length - 1)) },
  }
}

function moved(state: State, by: number): State {
  const rows = state.fleet?.rows ?? []
  const at = rows.findIndex(({ name }) => name === state.selected)
  return {
    ...state,
    selected: rows[Math.min(Math.max(0, at + by), rows.length - 1)]?.name,
    notice: "",
  }
}

const steps: Readonly<Record<string, number>> = {
  ...{ up: -1, k: -1, down: 1, j: 1 },
  ...{
    pageup: -page,
    pagedown: page,
    home: Number.NEGATIVE_INFINITY,
    end: Number.POSITIVE_INFINITY,
  },
}

function inFleet(state: State, { name = "" }: Key): { state: State; order?: Order } {
  const by = steps[name]
  if (by !== undefined) return { state: moved(state, by) }
  if (name === "q") return { state, order: { kind: "quit" } }
  const { selected } = state
  if (selected === undefined) return { state }
  const opened = (of: TextOf): { state: State; order: Order } => ({
    state: {
      ...state,
      view: { kind: "text", of, name: selected, lines: [], above: 0 },
      notice: "",
    },
    order: { kind: "look" },
  })
  switch (name) {
    case "p":
      return {
        state: { ...state, notice: `Pausing ${selected} ...` },
        order: { kind: "pause", name: selected },
      }
    case "r":
      return {
        state: { ...state, notice: `Resuming ${selected} ...` },
        order: { kind: "resume", name: selected },
      }
    case "s":
      return { state: { ...state, view: { kind: "stop", name: selected }, notice: "" } }
    case "m":
      return {
        state: {
          ...state,
          view: { kind: "message", to: selected, text: "", at: 0, pasting: false },
          notice: "",
        },
      }
    case "i":
    case "return":
      return opened("inspect")
    case "l":
      return opened("logs")
    default:
      return { state }
  }
}

function inMessage(
  state: State,
  view: Extract<Screen, { kind: "message" }>,
  { name = "", ctrl, meta, text = "" }: Key,
): { state: State; order?: Order } {
  const letters = charactersOf(view.text)
  const written = (next: readonly string[], at: number): { state: State } => {
    // Counted again: a mark that was typed is one with the letter before it.
    const before = charactersOf(next.slice(0, Math.max(0, at)).join("")).length
    return { state: { ...state, view: { ...view, text: next.join(""), at: before } } }
  }
  const typed = (more: readonly string[]): { state: State } => {
    const room = more.slice(0, Math.max(0, messageMax - letters.length))
    return written(letters.toSpliced(view.at, 0, ...room), view.at + room.length)
  }
  if (name === "paste-start" || name === "paste-end")
    return { state: { ...state, view: { ...view, pasting: name === "paste-start" } } }
  if (view.pasting && (name === "return" || name === "enter" || name === "tab")) return typed([" "])
  if (ctrl || meta) {
    if (name === "u") return written([], 0)
    if (name === "a") return written(letters, 0)
    return name === "e" ? written(letters, letters.length) : { state }
  }
  switch (name) {
    case "escape":
      return { state: { ...state, view: { kind: "fleet" }, notice: "Nothing was sent." } }
    case "return":
    case "enter":
      if (view.text.trim() === "")
        return { state: { ...state, view: { kind: "fleet" }, notice: "Nothing was sent." } }
      return {
        state: { ...state, view: { kind: "fleet" }, notice: `Telling ${view.to} ...` },
        order: { kind: "message", name: view.to, text: view.text },
      }
    case "backspace":
      return view.at === 0 ? { state } : written(letters.toSpliced(view.at - 1, 1), view.at - 1)
    case "delete":
      return written(letters.toSpliced(view.at, 1), view.at)
    case "left":
      return written(letters, view.at - 1)
    case "right":
      return written(letters, view.at + 1)
    case "home":
      return written(letters, 0)
    case "end":
      return written(letters, letters.length)
    default:
      return /^\P{Cc}+$/u.test(text) ? typed(charactersOf(text)) : { state }
  }
}

function inText(state: State, view: Extract<Screen, { kind: "text" }>, { name = "" }: Key): State {
  if (name === "q" || name === "escape" || name === "left")
    return { ...state, view: { kind: "fleet" } }
  const by = steps[name]
  if (by === undefined) return state
  return {
    ...state,
    view: {
      ...view,
      above: Math.min(Math.max(0, view.above - by), Math.max(0, view.lines.length - 1)),
    },
  }
}

/** Only a plain y stops; whatever else was pressed was not meant so. */
function inStop(
  state: State,
  { name }: Extract<Screen, { kind: "stop" }>,
  key: Key,
): { state: State; order?: Order } {
  const back: State = { ...state, view: { kind: "fleet" }, notice: `${name} was not stopped.` }
  if (key.name !== "y" || key.ctrl || key.meta) return { state: back }
  return { state: { ...back, notice: `Stopping ${name} ...` }, order: { kind: "stop", name } }
}

/** What a key does. Ctrl-C quits from everywhere. */
export function press(state: State, key: Key): { readonly state: State; readonly order?: Order } {
  if (key.ctrl && key.name === "c") return { state, order: { kind: "quit" } }
  const { view } = state
  if (view.kind === "message") return inMessage(state, view, key)
  if (view.kind === "stop") return inStop(state, view, key)
  if (key.ctrl || key.meta) return { state }
  return view.kind === "fleet" ? inFleet(state, key) : { state: inText(state, view, key) }
}
