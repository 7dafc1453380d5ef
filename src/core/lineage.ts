import { exceededLimit } from "./budget.ts"
import type { FleetIndex } from "./fleet-index.ts"
import { type Children, hasFinished, type Instance, type Uid, type Verdict } from "./instance.ts"
import type { Family, SpentByUid, Totals } from "./spending.ts"
import { addUsage, maxUsage, noUsage, type Usage } from "./usage.ts"
import { counted } from "./view.ts"

/**
 * What ancestors allow their descendants: levels, births, and money that was set aside. Told at
 * spawn, decided at admission.
 */

export interface Relations {
  readonly byUid: FleetIndex["byUid"]
  readonly totals: Totals
  readonly spent: SpentByUid
  readonly family: Family
}

/** A limit that an ancestor's `children` sets to one that is born, or would be. */
export function childLimit(
  lineage: readonly Uid[],
  uid: Uid | undefined,
  { byUid, family }: Pick<Relations, "byUid" | "family">,
): string | undefined {
  for (const [index, ancestor] of lineage.entries()) {
    const owner = byUid.get(ancestor)
    if (!owner) continue // held as ParentStopped
    const { depth, total } = owner.spec.children
    const levels = lineage.length - index
    if (levels > depth)
      return `${owner.name} may have descendants on ${counted(depth, "level")}, and this would be level ${levels}`
    const born = family.below.get(ancestor) ?? []
    const rank = uid === undefined ? born.length : born.indexOf(uid)
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
export function setAside(uid: Uid, { byUid, totals }: Relations): Usage {
  const child = byUid.get(uid)
  const used = totals.get(uid) ?? noUsage
  if (
    !child ||
    child.deletedAtMs !== undefined ||
    child.spec.state === "Stopped" ||
    hasFinished(child)
  )
    return used
  const { usd = 0, tokens = 0, iterations = 0, hours = 0 } = child.spec.budget
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
    if (child === upTo) break
  }
  return sum
}

/**
 * The first budget that is reached, in words: its own, of which what is set aside for its children
 * is a part, or an ancestor's.
 */
export function budgetReached({ uid, spec }: Instance, relations: Relations): string | undefined {
  const own = exceededLimit(spec.budget, committed(uid, relations))
  if (own) return own
  for (const ancestor of spec.lineage) {
    const owner = relations.byUid.get(ancestor)
    const words =
      owner && exceededLimit(owner.spec.budget, relations.totals.get(ancestor) ?? noUsage)
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
  const words = exceededLimit(parent.spec.budget, sum, "exceeded")
  return words === undefined
    ? undefined
    : {
        verdict: "Held",
        reason: "BudgetReached",
        message: `Of its parent ${parent.name}, nothing is left for it: ${words}.`,
      }
}
