import type { Budget, Instance, Uid } from "./instance.ts"
import { addUsage, noUsage, type Usage } from "./link.ts"
import type { Spent } from "./ports.ts"

/** Usage of an instance and of every descendant it ever had, removed ones too. */
export const spentBelow = (uid: Uid, spent: ReadonlyMap<Uid, Spent>): Usage =>
  [...spent].reduce((sum, [of, { lineage, used }]) => (of === uid || lineage.includes(uid) ? addUsage(sum, used) : sum), noUsage)

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

/** The first budget, own or an ancestor's, that is reached: in words. */
export function budgetReached(
  instance: Instance,
  byUid: ReadonlyMap<Uid, Instance>,
  spent: ReadonlyMap<Uid, Spent>,
): string | undefined {
  for (const uid of [instance.uid, ...instance.spec.lineage]) {
    const owner = byUid.get(uid)
    if (!owner || Object.keys(owner.spec.budget).length === 0) continue
    const words = reached(owner.spec.budget, spentBelow(uid, spent))
    if (words) return uid === instance.uid ? words : `of its ancestor ${owner.name}, ${words}`
  }
  return undefined
}
