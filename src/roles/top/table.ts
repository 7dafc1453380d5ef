import { dollarsOf } from "../../core/budget.ts"
import type { ScreenLine, Size } from "./screen-line.ts"
import type { Fleet, FleetRow } from "./state.ts"
import { cell, cutTo, middleCut } from "./text.ts"

/** The table of the fleet. */

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

/** The widths from which these columns are shown. */
const columnsMin = { numbers: 70, project: 100 }
const dollars = ({ usd, budgetUsd }: FleetRow, withBudget: boolean): string =>
  usd === undefined ? "" : dollarsOf(usd, withBudget ? budgetUsd : undefined)

/** What it is doing, or why it is not. The phase is left out: it has its own column. */
export function currentActivity({ phase, activity, why }: FleetRow): string {
  if (phase === "Running" && activity) return activity
  return why.startsWith(phase) ? why.slice(phase.length).replace(/^[:;,.] */, "") || why : why
}

/** The part of a list around one of its indexes. */
const windowAround = <T>(all: readonly T[], at: number, height: number): readonly T[] => {
  const start = Math.min(Math.max(0, at - Math.floor(height / 2)), Math.max(0, all.length - height))
  return all.slice(start, start + height)
}

interface Column {
  readonly head: string
  value(row: FleetRow): string
}
function tableColumns(columns: number): readonly Column[] {
  const hasNumbers = columns >= columnsMin.numbers
  const project: Column = { head: "PROJECT", value: (row) => row.project }
  const iteration: Column = { head: "ITER", value: (row) => String(row.iteration ?? "") }
  return [
    { head: "NAME", value: ({ name }) => name },
    ...(columns >= columnsMin.project ? [project] : []),
    { head: "PHASE", value: ({ phase }) => phase },
    ...(hasNumbers ? [iteration] : []),
    { head: "USED", value: (row) => dollars(row, hasNumbers) },
    { head: "NOW", value: currentActivity },
  ]
}

const styleOf = (phase: string): ScreenLine["style"] => {
  if (alarming.has(phase)) return "alarm"
  return phase === "Running" ? "good" : undefined
}

/** The fleet as lines, the selected one in view. */
export interface FleetTable {
  readonly lines: readonly ScreenLine[]
  /** Whether the selected row is cut. */
  readonly isCut: boolean
}

export function fleetTable(
  fleet: Fleet,
  selected: string | undefined,
  { columns, rows }: Size,
): FleetTable {
  const all = tableColumns(columns)
  const at = fleet.rows.findIndex(({ name }) => name === selected)
  const shown = windowAround(fleet.rows, at, rows - 1)
  const cells = shown.map((row) => all.map(({ value }) => value(row)))
  // The last column takes what is left; no other takes more than a quarter of the width.
  const fixed = all.slice(0, -1).map(({ head }, column) => {
    const longest = Math.max(head.length, ...cells.map((row) => row[column]?.length ?? 0))
    return Math.min(longest, Math.max(head.length, Math.floor(columns / 4)))
  })
  const fit = (text: string, column: number): string => {
    const width = fixed[column]
    if (width === undefined) return cell(text, columns)
    return (column === 0 ? middleCut(text, width) : cell(text, width)).padEnd(width)
  }
  const joined = (row: readonly string[]): string => row.map(fit).join("  ").trimEnd()
  const lines = shown.map(({ name, phase }, index): ScreenLine => {
    const chosen = name === selected
    const text = cutTo(`${chosen ? ">" : " "} ${joined(cells[index] ?? [])}`, columns)
    if (chosen) return { text: text.padEnd(columns), style: "selected" }
    const style = styleOf(phase)
    return style === undefined ? { text } : { text, style }
  })
  const chosen = shown.findIndex(({ name }) => name === selected)
  const room = columns - 2 - fixed.reduce((sum, width) => sum + width + 2, 0)
  return {
    lines: [
      { text: cutTo(`  ${joined(all.map(({ head }) => head))}`, columns), style: "head" },
      ...lines,
    ],
    isCut:
      (cells[chosen]?.at(-1)?.length ?? 0) > room ||
      (cells[chosen]?.[0]?.length ?? 0) > (fixed[0] ?? 0),
  }
}
