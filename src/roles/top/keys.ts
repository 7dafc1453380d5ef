import { charactersOf } from "../../core/view.ts"
import type { Key, Order, Screen, State, TextOf } from "./state.ts"

/** What a key does. Pure: no terminal, no calls. */

/** A line is for a remark; a long text goes through message-instances. */
const messageMax = 4000
const page = 10

/** The state after a key, and what the person ordered by it, if anything. */
export interface Effect {
  readonly state: State
  readonly order?: Order
}

function moveSelection(state: State, by: number): State {
  const rows = state.fleet?.rows ?? []
  const at = rows.findIndex(({ name }) => name === state.selected)
  return {
    ...state,
    selected: rows[Math.min(Math.max(0, at + by), rows.length - 1)]?.name,
    notice: "",
  }
}

const steps: Readonly<Record<string, number>> = {
  up: -1,
  k: -1,
  down: 1,
  j: 1,
  pageup: -page,
  pagedown: page,
  home: Number.NEGATIVE_INFINITY,
  end: Number.POSITIVE_INFINITY,
}

function pressInFleet(state: State, { name = "" }: Key): Effect {
  const by = steps[name]
  if (by !== undefined) return { state: moveSelection(state, by) }
  if (name === "q") return { state, order: { kind: "quit" } }
  const { selected } = state
  if (selected === undefined) return { state }
  const open = (of: TextOf): Effect => ({
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
      return open("inspect")
    case "l":
      return open("logs")
    default:
      return { state }
  }
}

function pressInMessage(
  state: State,
  view: Extract<Screen, { kind: "message" }>,
  { name = "", ctrl, meta, text = "" }: Key,
): Effect {
  const letters = charactersOf(view.text)
  const write = (next: readonly string[], at: number): Effect => {
    // Counted again, because a combining mark joins the letter before it.
    const before = charactersOf(next.slice(0, Math.max(0, at)).join("")).length
    return { state: { ...state, view: { ...view, text: next.join(""), at: before } } }
  }
  const type = (more: readonly string[]): Effect => {
    const room = more.slice(0, Math.max(0, messageMax - letters.length))
    return write(letters.toSpliced(view.at, 0, ...room), view.at + room.length)
  }
  if (name === "paste-start" || name === "paste-end")
    return { state: { ...state, view: { ...view, pasting: name === "paste-start" } } }
  if (view.pasting && (name === "return" || name === "enter" || name === "tab")) return type([" "])
  if (ctrl || meta) {
    if (name === "u") return write([], 0)
    if (name === "a") return write(letters, 0)
    return name === "e" ? write(letters, letters.length) : { state }
  }
  switch (name) {
    case "escape":
      return { state: { ...state, view: { kind: "fleet" }, notice: "Message discarded." } }
    case "return":
    case "enter":
      if (view.text.trim() === "")
        return { state: { ...state, view: { kind: "fleet" }, notice: "Message discarded." } }
      return {
        state: { ...state, view: { kind: "fleet" }, notice: `Sending to ${view.to} ...` },
        order: { kind: "message", name: view.to, text: view.text },
      }
    case "backspace":
      return view.at === 0 ? { state } : write(letters.toSpliced(view.at - 1, 1), view.at - 1)
    case "delete":
      return write(letters.toSpliced(view.at, 1), view.at)
    case "left":
      return write(letters, view.at - 1)
    case "right":
      return write(letters, view.at + 1)
    case "home":
      return write(letters, 0)
    case "end":
      return write(letters, letters.length)
    default:
      return /^\P{Cc}+$/u.test(text) ? type(charactersOf(text)) : { state }
  }
}

function pressInText(
  state: State,
  view: Extract<Screen, { kind: "text" }>,
  { name = "" }: Key,
): State {
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

/** Only a plain y stops; any other key cancels. */
function pressInStop(state: State, { name }: Extract<Screen, { kind: "stop" }>, key: Key): Effect {
  const back: State = { ...state, view: { kind: "fleet" }, notice: `Did not stop ${name}.` }
  if (key.name !== "y" || key.ctrl || key.meta) return { state: back }
  return { state: { ...back, notice: `Stopping ${name} ...` }, order: { kind: "stop", name } }
}

/** Ctrl-C quits from everywhere. */
export function press(state: State, key: Key): Effect {
  if (key.ctrl && key.name === "c") return { state, order: { kind: "quit" } }
  const { view } = state
  if (view.kind === "message") return pressInMessage(state, view, key)
  if (view.kind === "stop") return pressInStop(state, view, key)
  if (key.ctrl || key.meta) return { state }
  return view.kind === "fleet" ? pressInFleet(state, key) : { state: pressInText(state, view, key) }
}
