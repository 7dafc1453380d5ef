import type { Budget, Uid } from "./instance.ts"
import { addUsage, noUsage, type Usage } from "./link.ts"
import type { Spent } from "./ports.ts"

/** Which limit is reached (or exceeded: then all of it may be used), in words; undefined while none is. */
export function reached(budget: Budget, used: Usage, how: "reached" | "exceeded" = "reached"): string | undefined {
  const over = (value: number, limit: number | undefined): boolean =>
    limit !== undefined && (how === "reached" ? value >= limit : value > limit * (1 + rounding))
  if (over(used.usd, budget.usd)) return `$${used.usd.toFixed(2)} of $${budget.usd} are spent`
  if (over(used.tokens, budget.tokens)) return `${used.tokens} of ${budget.tokens} tokens are used`
  if (over(used.iterations, budget.iterations)) return `${used.iterations} of ${budget.iterations} iterations are done`
  if (over(used.ms / 3_600_000, budget.hours)) return `${(used.ms / 3_600_000).toFixed(1)} of ${budget.hours} hours are used`
  return undefined
}
/** What adding floats may miss. */
const rounding = 1e-9

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
