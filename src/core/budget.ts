import type { Budget, Instance, Uid } from "./instance.ts"
import { addUsage, noUsage, type Usage } from "./link.ts"
import type { Spent } from "./ports.ts"

/** Which limit is reached, in words; undefined while none is. */
export function reached(budget: Budget, used: Usage): string | undefined {
  if (budget.usd !== undefined && used.usd >= budget.usd) return `$${used.usd.toFixed(2)} of $${budget.usd} are spent`
  if (budget.tokens !== undefined && used.tokens >= budget.tokens) return `${used.tokens} of ${budget.tokens} tokens are used`
  if (budget.iterations !== undefined && used.iterations >= budget.iterations)
    return `${used.iterations} of ${budget.iterations} iterations are done`
  if (budget.hours !== undefined && used.ms >= budget.hours * 3_600_000)
    return `${(used.ms / 3_600_000).toFixed(1)} of ${budget.hours} hours are used`
  return undefined
}

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

/** The first budget, own or an ancestor's, that is reached: in words. */
export function budgetReached(
  instance: Instance,
  byUid: ReadonlyMap<Uid, Instance>,
  totals: ReadonlyMap<Uid, Usage>,
): string | undefined {
  for (const uid of [instance.uid, ...instance.spec.lineage]) {
    const owner = byUid.get(uid)
    const words = owner && reached(owner.spec.budget, totals.get(uid) ?? noUsage)
    if (words) return uid === instance.uid ? words : `of its ancestor ${owner.name}, ${words}`
  }
  return undefined
}
