import { amountsUsed, budgetDimensions, exceededLimit, wholeAmount } from "./budget.ts"
import type { FleetIndex } from "./fleet-index.ts"
import {
  type Budget,
  type Children,
  hasFinished,
  type Instance,
  type Uid,
  type Verdict,
} from "./instance.ts"
import { instanceLimits } from "./limits.ts"
import type { Accounts, Family, Totals } from "./spending.ts"
import { addUsage, maxUsage, noUsage, type Usage } from "./usage.ts"
import { counted } from "./view.ts"

/**
 * What ancestors allow their descendants: levels, births, and money that was set aside. Told at
 * spawn, decided at admission.
 */

export interface Relations {
  readonly byUid: FleetIndex["byUid"]
  readonly totals: Totals
  readonly spent: Accounts
  readonly family: Family
}

/** A limit that an ancestor's `children` sets to one that is born, or would be. */
export function childLimit(
  lineage: readonly Uid[],
  uid: Uid | undefined,
  { byUid, family, spent }: Pick<Relations, "byUid" | "family" | "spent">,
): string | undefined {
  for (const [index, ancestor] of lineage.entries()) {
    const owner = byUid.get(ancestor)
    if (!owner) continue // held as ParentStopped
    const { depth, total } = instanceLimits(owner, spent).children
    const levels = lineage.length - index
    if (levels > depth)
      return `${owner.name} may have descendants on ${counted(depth, "level")}, and this would be level ${levels}`
    const born = family.below.get(ancestor) ?? []
    const known = uid === undefined ? -1 : born.indexOf(uid)
    // Who has no account yet comes after all who have one.
    const rank = known < 0 ? born.length : known
    if (rank >= total)
      return `${owner.name} may have ${counted(total, "descendant")} in its life, and had them`
  }
  return undefined
}

/** The most that a child may have where this is what its parent has. */
export const childrenWithin = (parent: Children, asked: Children): Children => ({
  depth: Math.max(0, Math.min(asked.depth, parent.depth - 1)),
  total: Math.min(asked.total, parent.total),
  running: Math.min(asked.running, parent.running),
})

const hourMs = 3_600_000
/**
 * What is set aside for a child: its budget while it may still use it, at least what it used; of
 * one that ended, what it used.
 */
export function setAside(uid: Uid, { byUid, totals, spent }: Relations): Usage {
  const child = byUid.get(uid)
  const used = totals.get(uid) ?? noUsage
  if (
    !child ||
    child.deletedAtMs !== undefined ||
    child.spec.state === "Stopped" ||
    hasFinished(child)
  )
    return used
  const { usd = 0, tokens = 0, iterations = 0, hours = 0 } = instanceLimits(child, spent).budget
  return maxUsage(used, { usd, tokens, iterations, ms: Math.round(hours * hourMs) })
}
/**
 * What an instance used itself, and what is set aside for its children: up to one of them and with
 * it, or for all.
 */
export function committed(uid: Uid, relations: Relations, upTo?: Uid): Usage {
  let sum = relations.spent.get(uid)?.used ?? noUsage
  for (const child of relations.family.children.get(uid) ?? []) {
    sum = addUsage(sum, setAside(child, relations))
    if (child === upTo) return sum
  }
  return upTo === undefined ? sum : addUsage(sum, setAside(upTo, relations))
}

/**
 * The budget of a child that was given none: half of what its parent has left. Where nothing is
 * left it is as much as its parent's, so that the child is held until there is.
 */
export function shareForChild(parent: Instance, relations: Relations): Budget {
  const own = instanceLimits(parent, relations.spent).budget
  const taken = amountsUsed(committed(parent.uid, relations))
  const shares = budgetDimensions.flatMap((dimension): [string, number][] => {
    const limit = own[dimension]
    if (limit === undefined) return []
    const half = wholeAmount(dimension, (limit - taken[dimension]) / 2)
    return [[dimension, half > 0 ? half : limit]]
  })
  return Object.fromEntries(shares)
}

/**
 * The first budget that is reached, in words: its own, of which what is set aside for its children
 * is a part, or an ancestor's.
 */
export function budgetReached({ uid, spec }: Instance, relations: Relations): string | undefined {
  const { spent, byUid, totals } = relations
  const { budget } = instanceLimits({ uid, spec }, spent)
  const own = exceededLimit(budget, committed(uid, relations))
  if (own) return own
  for (const ancestor of spec.lineage) {
    const owner = byUid.get(ancestor)
    const words =
      owner && exceededLimit(instanceLimits(owner, spent).budget, totals.get(ancestor) ?? noUsage)
    if (words) return `of its ancestor ${owner.name}, ${words}`
  }
  return undefined
}

/** Why a child is not admitted, though its own budget is not reached: its ancestors' limits. */
export function lineageHold(
  { uid, spec: { lineage } }: Instance,
  relations: Relations,
): Verdict | undefined {
  const parent = relations.byUid.get(lineage.at(-1) ?? uid)
  if (lineage.length === 0 || !parent) return undefined
  const limit = childLimit(lineage, uid, relations)
  if (limit) return { verdict: "Held", reason: "ChildLimit", message: `${limit}.` }
  // More than all of it: a child that was given the whole rest may use it.
  const sum = committed(parent.uid, relations, uid)
  const words = exceededLimit(instanceLimits(parent, relations.spent).budget, sum, "exceeded")
  return words === undefined
    ? undefined
    : {
        verdict: "Held",
        reason: "BudgetReached",
        message: `Of its parent ${parent.name}, nothing is left for it: ${words}.`,
      }
}
