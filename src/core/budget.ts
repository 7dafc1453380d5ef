import type { Budget } from "./instance.ts"
import type { Usage } from "./usage.ts"
import { counted } from "./view.ts"

/**
 * Which limit is reached (or exceeded: then all of it may be used), in words; undefined while none
 * is.
 */
export function exceededLimit(
  budget: Budget,
  used: Usage,
  how: "reached" | "exceeded" = "reached",
): string | undefined {
  const isOver = (value: number, limit: number | undefined): boolean =>
    limit !== undefined && (how === "reached" ? value >= limit : value > limit * (1 + rounding))
  if (isOver(used.usd, budget.usd)) return `${dollarsOf(used.usd, budget.usd)} are spent`
  if (isOver(used.tokens, budget.tokens))
    return `${used.tokens} of ${counted(budget.tokens ?? 0, "token is", "tokens are")} used`
  if (isOver(used.iterations, budget.iterations))
    return `${used.iterations} of ${counted(budget.iterations ?? 0, "iteration is", "iterations are")} done`
  const hours = used.ms / hourMs
  if (isOver(hours, budget.hours))
    return `${amount(hours, budget.hours, 1)} of ${plain(budget.hours ?? 0)} ${budget.hours === 1 ? "hour is" : "hours are"} used`
  return undefined
}
/** What adding floats may miss. */
const rounding = 1e-9
const hourMs = 3_600_000

export const budgetDimensions = ["usd", "tokens", "iterations", "hours"] as const
export type BudgetDimension = (typeof budgetDimensions)[number]

export const amountsUsed = ({
  usd,
  tokens,
  iterations,
  ms,
}: Usage): Record<BudgetDimension, number> => ({
  usd,
  tokens,
  iterations,
  hours: ms / hourMs,
})
/** The largest budget of that dimension that is no more than the value. */
export const wholeAmount = (dimension: BudgetDimension, value: number): number =>
  dimension === "tokens" || dimension === "iterations"
    ? Math.floor(value)
    : Math.floor(value * 1e6) / 1e6

/** More digits than any amount here has: what still looks the same then is the same. */
const digitsMax = 12
const trimmed = (text: string): string => text.replace(/\.?0+$/, "")
/** A number as people write it, without an exponent. */
const plain = (value: number): string =>
  String(value).includes("e-") ? trimmed(value.toFixed(20)) : String(value)

/**
 * An amount with `digits` behind the point, or as many as its limit has, or as it takes to see that
 * it is something, and on which side of its limit it is: nobody believes `0.0 of 0.01` or `$0.01 of
 * $0.008`.
 */
function amount(value: number, limit: number | undefined, digits: number): string {
  const least = Math.max(
    digits,
    limit === undefined ? 0 : (plain(limit).split(".")[1]?.length ?? 0),
  )
  for (let more = least; more <= digitsMax; more++) {
    const text = value.toFixed(more)
    const shown = Number(text)
    const sideHolds = limit === undefined || Math.sign(shown - limit) === Math.sign(value - limit)
    if (sideHolds && (shown > 0 || value <= 0)) return text
  }
  return limit === undefined || Math.abs(value - limit) > rounding
    ? value.toFixed(digits)
    : plain(limit)
}

/** `$0.50 of $5`; without a limit `$0.50`. */
export const dollarsOf = (usd: number, limit?: number): string =>
  `$${amount(usd, limit, 2)}${limit === undefined ? "" : ` of $${plain(limit)}`}`
