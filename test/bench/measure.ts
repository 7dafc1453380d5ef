/** What a benchmark says of one thing, and the few numbers that it makes of many. */
export interface Row {
  readonly id: string
  readonly value: number
  readonly unit: "ms" | "MiB" | "bytes" | "%" | "/s"
  /**
   * The same of something plainer that does the same, measured in the same run; null where nothing
   * does.
   */
  readonly baseline: number | null
  /** Value to baseline. */
  readonly ratio: number | null
  /** In words; null for a row that only informs. */
  readonly goal: string | null
  readonly holds: boolean | null
}

/** What is measured together, because it needs the same world. */
export interface Part {
  readonly ids: readonly string[]
  /** Leaves nothing running, whether it succeeds or fails. */
  measure(): Promise<readonly Row[]>
}

const rounded = (value: number, digits: number): number => Number(value.toFixed(digits))

/** A row whose goal is judged before anything is rounded. */
export function row(
  id: string,
  unit: Row["unit"],
  value: number,
  {
    baseline = null,
    goal = null,
    holds = null,
  }: { baseline?: number | null; goal?: string | null; holds?: boolean | null } = {},
): Row {
  const ratio = baseline === null ? null : rounded(value / baseline, 2)
  return {
    id,
    value: rounded(value, unit === "%" ? 2 : 1),
    unit,
    baseline: baseline === null ? null : rounded(baseline, 1),
    ratio,
    goal,
    holds,
  }
}

/**
 * The nearest rank: a value that was measured, never one in between. `share` is from 0 to 1.
 * @throws when nothing was measured.
 */
export function quantile(values: readonly number[], share: number): number {
  const value = values.toSorted((a, b) => a - b)[Math.max(0, Math.ceil(values.length * share) - 1)]
  if (value === undefined) throw new Error("nothing was measured")
  return value
}
export const median = (values: readonly number[]): number => quantile(values, 0.5)
