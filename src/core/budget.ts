import type { Budget, Uid } from "./instance.ts"
import { addUsage, noUsage, type Usage } from "./link.ts"
import type { Spent } from "./ports.ts"

/** Which limit is reached (or exceeded: then all of it may be used), in words; undefined while none is. */
export function reached(budget: Budget, used: Usage, how: "reached" | "exceeded" = "reached"): string | undefined {
  const over = (value: number, limit: number | undefined): boolean =>
    limit !== undefined && (how === "reached" ? value >= limit : value > limit * (1 + rounding))
  if (over(used.usd, budget.usd)) return `${dollarsOf(used.usd, budget.usd)} are spent`
  if (over(used.tokens, budget.tokens)) return `${used.tokens} of ${budget.tokens} tokens are used`
  if (over(used.iterations, budget.iterations)) return `${used.iterations} of ${budget.iterations} iterations are done`
  const hours = used.ms / hourMs
  if (over(hours, budget.hours)) return `${amount(hours, budget.hours, 1)} of ${plain(budget.hours ?? 0)} hours are used`
  return undefined
}
/** What adding floats may miss. */
const rounding = 1e-9
const hourMs = 3_600_000

/** More digits than any amount here has: what still looks the same then is the same. */
const digitsMax = 12
const trimmed = (text: string): string => text.replace(/\.?0+$/, "")
/** A number as people write it, without an exponent. */
const plain = (value: number): string => (String(value).includes("e-") ? trimmed(value.toFixed(20)) : String(value))

/**
 * An amount with `digits` behind the point, or as many as its limit has, or as it takes to see that it is something, and on which side of its limit it is:
 * nobody believes `0.0 of 0.01` or `$0.01 of $0.008`.
 */
function amount(value: number, limit: number | undefined, digits: number): string {
  const least = Math.max(digits, limit === undefined ? 0 : (plain(limit).split(".")[1]?.length ?? 0))
  for (let more = least; more <= digitsMax; more++) {
    const text = value.toFixed(more)
    const shown = Number(text)
    const sideHolds = limit === undefined || Math.sign(shown - limit) === Math.sign(value - limit)
    if (sideHolds && (shown > 0 || value <= 0)) return text
  }
  return limit === undefined || Math.abs(value - limit) > rounding ? value.toFixed(digits) : plain(limit)
}

/** `$0.50 of $5`; without a limit `$0.50`. */
export const dollarsOf = (usd: number, limit?: number): string =>
  `$${amount(usd, limit, 2)}${limit === undefined ? "" : ` of $${plain(limit)}`}`

/** What each and all its descendants used. */
export type Totals = ReadonlyMap<Uid, Usage>

/** A ledger gives the same map as long as nothing changed, and never changes one that it gave. */
const totalsOf = new WeakMap<ReadonlyMap<Uid, Spent>, ReadonlyMap<Uid, Usage>>()

/** What each uid and every descendant it ever had used, removed ones too: one pass over the ledger, however large the fleet is. */
export function totalsBelow(spent: ReadonlyMap<Uid, Spent>): ReadonlyMap<Uid, Usage> {
  const known = totalsOf.get(spent)
  if (known) return known
  const totals = new Map<Uid, Usage>()
  for (const [uid, { lineage, used }] of spent)
    for (const owner of [uid, ...lineage]) totals.set(owner, addUsage(totals.get(owner) ?? noUsage, used))
  totalsOf.set(spent, totals)
  return totals
}
