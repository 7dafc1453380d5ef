import { withForeseen } from "./birth.ts"
import { amountsUsed, type BudgetDimension, budgetDimensions, wholeAmount } from "./budget.ts"
import { Fault } from "./faults.ts"
import { indexOf } from "./fleet-index.ts"
import type { Readings } from "./fleet-view.ts"
import type { Budget, Children, Instance, PartialChildren, Spec, Uid } from "./instance.ts"
import { completeChildren, instanceLimits, policyDefaults } from "./limits.ts"
import { childLimit, childrenWithin, committed, type Relations } from "./lineage.ts"
import { familyOf, totalsBelow } from "./spending.ts"
import type { ToolContext } from "./tool.ts"
import { noUsage, type Usage } from "./usage.ts"
import { counted } from "./view.ts"

/**
 * What an instance may give to one that it spawns: nothing that it has not itself. The leading
 * scheduler decides again at admission.
 */

/** Children whose account is not open yet count as well: they may have been spawned a moment ago. */
export function relationsOf(
  { limits }: Pick<ToolContext, "limits">,
  instances: readonly Instance[],
  readings: Readings,
): Relations {
  const { byUid } = indexOf(instances)
  const spent = withForeseen(readings.spent, instances, policyDefaults(limits()), { byUid })
  return { byUid, spent, totals: totalsBelow(spent), family: familyOf(spent) }
}

const ask = (text: string): string =>
  `message_instances {"to":["@operators"],"question":true,"text":"${text}"}`
const refused = (what: string, next: string): Fault => new Fault("Forbidden", what, next)

/**
 * The instance that calls, which what it spawns will be a child of; undefined for a person. @throws
 * Conflict when it is being removed.
 */
export function parentOf(
  { who }: Pick<ToolContext, "who">,
  visible: readonly Instance[],
): Instance | undefined {
  if (who.kind === "human") return undefined
  const parent = visible.find(
    ({ uid, deletedAtMs }) => uid === who.uid && deletedAtMs === undefined,
  )
  if (!parent) throw new Fault("Conflict", "You are being removed.", "End your iteration.")
  return parent
}

const lastOfTree = new Map<Uid, Promise<unknown>>()
/**
 * What a person calls for is done at once; what instances of one tree call for is done one after
 * the other, so that many calls side by side find no more left than there is. The callers' rate
 * bounds how many wait. Another replica is not waited for: admission decides there.
 */
export async function oneByOne<T>(
  { who, signal }: Pick<ToolContext, "who" | "signal">,
  work: () => Promise<T>,
): Promise<T> {
  if (who.kind === "human") return work()
  const root = who.lineage[0] ?? who.uid
  const next = async (): Promise<T> => {
    if (signal.aborted) throw new Fault("Unavailable", "The call was cancelled.", "Call it again.")
    return work()
  }
  const mine = (lastOfTree.get(root) ?? Promise.resolve()).then(next, next)
  lastOfTree.set(root, mine)
  try {
    return await mine
  } finally {
    if (lastOfTree.get(root) === mine) lastOfTree.delete(root)
  }
}

/** What a child has of its parent, whatever it was asked for. */
export const inherited = ({
  uid,
  spec,
}: Instance): Pick<Spec, "project" | "loop" | "lineage"> & Partial<Spec> => ({
  ...{ project: spec.project, loop: spec.loop, lineage: [...spec.lineage, uid] },
  ...(spec.repository !== undefined && { repository: spec.repository }),
  ...(spec.codeRoot !== undefined && { codeRoot: spec.codeRoot }),
  ...(spec.model !== undefined && { model: spec.model }),
  ...(spec.schedule && { schedule: spec.schedule }),
})

export interface AskedChild {
  readonly project?: string | undefined
  readonly repository?: string | undefined
  readonly codeRoot?: string | undefined
  readonly loop?: string | undefined
  readonly model?: string | undefined
  readonly priority?: number | undefined
  readonly schedule?: Spec["schedule"]
}

/**
 * @throws Forbidden for what its parent has not itself, and when the parent may have no more
 * children.
 */
export function checkChild(parent: Instance, asked: AskedChild, relations: Relations): void {
  const limit = childLimit([...parent.spec.lineage, parent.uid], undefined, relations)
  if (limit) throw refused(`${limit}.`, `Do the work yourself, or ${ask("may I spawn more?")}`)
  const { spec } = parent
  const same = (
    field: "project" | "repository" | "codeRoot" | "loop" | "model",
    own: string | undefined = spec[field],
  ): void => {
    const wanted = asked[field]
    if (wanted === undefined || wanted === own) return
    throw refused(
      `A child works with its parent's ${field}, ${own ?? "the default"}, not ${wanted}.`,
      `Leave ${field} out, or ${ask("please spawn …")}`,
    )
  }
  same("project")
  same("repository")
  same("codeRoot")
  same("loop")
  same("model", instanceLimits(parent, relations.spent).model)
  if (asked.schedule) throw refused("A child works in its parent's windows.", "Leave schedule out.")
  if (asked.priority !== undefined && asked.priority > spec.priority)
    throw refused(
      `A child's priority is at most its parent's, ${spec.priority}.`,
      "Give a lower one, or none.",
    )
}

/** As many as it asks for, within what its parent has. */
export const childrenOf = (parent: Children, asked: PartialChildren | undefined): Children =>
  childrenWithin(parent, completeChildren(asked, parent))

const amountOf = (dimension: BudgetDimension, value: number): string =>
  dimension === "usd" ? `$${value}` : counted(value, dimension.slice(0, -1))

/**
 * The budget of a child: a part of what its parent has left, set aside for it; half of that where
 * nothing is asked. What the parent itself is not limited in, the child need not be. @throws
 * Forbidden when there is not so much left.
 */
export function budgetWithin(
  parent: Instance,
  asked: Budget,
  relations: Relations,
  replaces: Usage = noUsage,
): Budget {
  const { budget } = instanceLimits(parent, relations.spent)
  const taken = amountsUsed(committed(parent.uid, relations))
  const freed = amountsUsed(replaces)
  const given = budgetDimensions.flatMap((dimension): [string, number][] => {
    const own = budget[dimension]
    const wanted = asked[dimension]
    if (own === undefined) return wanted === undefined ? [] : [[dimension, wanted]]
    const left = own - taken[dimension] + freed[dimension]
    const amount = wanted ?? wholeAmount(dimension, left / 2)
    if (amount > 0 && amount <= left) return [[dimension, amount]]
    throw refused(
      `${parent.name}'s budget of ${amountOf(dimension, own)} has ${wholeAmount(dimension, Math.max(0, left))} left.`,
      amount > left && left > 0
        ? `Give at most that.`
        : `Do the work yourself, or ${ask("I need a larger budget")}`,
    )
  })
  return Object.fromEntries(given)
}
