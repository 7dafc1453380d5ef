import { charactersOf, clean } from "../../core/view.ts"

/** What `top` shows. Pure: no terminal, no calls. `keys.ts` says how a key changes it. */

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
  /** Of the whole fleet; `rows` may be fewer. */
  readonly total: number
  readonly rows: readonly FleetRow[]
}
export type TextOf = "inspect" | "logs"
export type Screen =
  | { readonly kind: "fleet" }
  /**
   * A line being written to an instance. `at` is the cursor, in characters. During a paste, the end
   * of a line does not send.
   */
  | {
      readonly kind: "message"
      readonly to: string
      readonly text: string
      readonly at: number
      readonly pasting: boolean
    }
  /** The question whether to stop an instance. */
  | { readonly kind: "stop"; readonly name: string }
  /** `above`: how many lines of the text are below the screen; 0 follows its end. */
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
  /** By name, so that it stays put when the fleet is sorted differently. */
  readonly selected: string | undefined
  readonly view: Screen
  /** The result of the last order. */
  readonly notice: string
  /** Why the table is out of date. */
  readonly trouble: string | undefined
}
export type Order =
  | { readonly kind: "pause" | "resume" | "stop"; readonly name: string }
  | { readonly kind: "message"; readonly name: string; readonly text: string }
  /** Refresh at once, because another text is shown. */
  | { readonly kind: "look" }
  | { readonly kind: "quit" }

/** As node:readline reports it. */
export interface Key {
  readonly name?: string | undefined
  readonly ctrl?: boolean | undefined
  readonly meta?: boolean | undefined
  /** The character, if the key types one. */
  readonly text?: string | undefined
}

export const empty: State = {
  fleet: undefined,
  selected: undefined,
  view: { kind: "fleet" },
  notice: "",
  trouble: undefined,
}

/** The selection stays with its instance or, if that is gone, at its place in the table. */
export function withFleet(state: State, fleet: Fleet): State {
  const at = state.fleet?.rows.findIndex(({ name }) => name === state.selected) ?? 0
  const isStillThere = fleet.rows.some(({ name }) => name === state.selected)
  const selected = isStillThere
    ? state.selected
    : fleet.rows[Math.min(Math.max(0, at), fleet.rows.length - 1)]?.name
  return { ...state, fleet, selected, trouble: undefined }
}

/**
 * Puts the text into its view, if that is still open, wrapped so that all of it can be reached. The
 * scroll position stays.
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
