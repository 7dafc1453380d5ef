import { withForeseen } from "./birth.ts"
import { amountsUsed, type BudgetDimension, budgetDimensions, wholeAmount } from "./budget.ts"
import { Fault } from "./faults.ts"
import { indexOf } from "./fleet-index.ts"
import type { Readings } from "./fleet-view.ts"
import type { Budget, Children, Instance, PartialChildren, Spec } from "./instance.ts"
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

/**
 * Children whose account is not open yet count as well: they may have been spawned a moment ago.
 */
export function relationsOf(
  { limits }: Pick<ToolContext, "limits">,
  instances: readonly Instance[],
  readings: Readings,
): Relations {
  const fleet = indexOf(instances)
  const spent = withForeseen(readings.spent, fleet, policyDefaults(limits()))
  return { byUid: fleet.byUid, spent, totals: totalsBelow(spent), family: familyOf(spent) }
}

const askPeople = (text: string): string =>
  `message_instances {"to":["@operators"],"question":true,"text":"${text}"}`
const forbidden = (message: string, next: string): Fault => new Fault("Forbidden", message, next)

/** What a child has of its parent, whatever it was asked for. */
export const inheritedSpec = ({
  uid,
  spec,
}: Instance): Pick<Spec, "project" | "loop" | "lineage"> & Partial<Spec> => ({
  project: spec.project,
  loop: spec.loop,
  lineage: [...spec.lineage, uid],
  ...(spec.repository !== undefined && { repository: spec.repository }),
  ...(spec.codeRoot !== undefined && { codeRoot: spec.codeRoot }),
  ...(spec.model !== undefined && { model: spec.model }),
  ...(spec.schedule && { schedule: spec.schedule }),
})

/** What a spawn may ask for and a child has of its parent. */
export interface ChildRequest {
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
export function checkChild(parent: Instance, request: ChildRequest, relations: Relations): void {
  const limit = childLimit([...parent.spec.lineage, parent.uid], undefined, relations)
  if (limit)
    throw forbidden(`${limit}.`, `Do the work yourself, or ${askPeople("may I spawn more?")}`)
  const { project, repository, codeRoot, loop } = parent.spec
  const { model } = instanceLimits(parent, relations.spent)
  for (const [field, own] of Object.entries({ project, repository, codeRoot, loop, model })) {
    const wanted = new Map(Object.entries(request)).get(field)
    if (wanted === undefined || wanted === own) continue
    throw forbidden(
      `A child works with its parent's ${field}, ${own ?? "the default"}, not ${wanted}.`,
      `Leave ${field} out, or ${askPeople("please spawn …")}`,
    )
  }
  checkTerms(parent, request)
}

/** @throws Forbidden for a schedule of its own, and for more priority than its parent has. */
export function checkTerms(
  { spec }: Instance,
  { schedule, priority }: Pick<ChildRequest, "priority"> & { schedule?: Spec["schedule"] | null },
): void {
  if (schedule !== undefined)
    throw forbidden(
      "A child works in its parent's windows.",
      `Leave schedule out, or ${askPeople("please change the schedule")}`,
    )
  if (priority !== undefined && priority > spec.priority)
    throw forbidden(
      `A child's priority is at most its parent's, ${spec.priority}.`,
      "Give a lower one, or none.",
    )
}

/** As many as it asks for, within what its parent has. */
export const grantedChildren = (parent: Children, request: PartialChildren | undefined): Children =>
  childrenWithin(parent, completeChildren(request, parent))

const renderAmount = (dimension: BudgetDimension, value: number): string =>
  dimension === "usd" ? `$${value}` : counted(value, dimension.slice(0, -1))

/**
 * The budget of a child: a part of what its parent has left, set aside for it; half of that where
 * nothing is asked. What the parent itself is not limited in, the child need not be.
 * @throws Forbidden when there is not so much left.
 */
export function budgetWithin(
  parent: Instance,
  request: Budget,
  relations: Relations,
  replaces: Usage = noUsage,
): Budget {
  const { budget } = instanceLimits(parent, relations.spent)
  const taken = amountsUsed(committed(parent.uid, relations))
  const freed = amountsUsed(replaces)
  const given = budgetDimensions.flatMap((dimension): [string, number][] => {
    const own = budget[dimension]
    const wanted = request[dimension]
    if (own === undefined) return wanted === undefined ? [] : [[dimension, wanted]]
    const left = own - taken[dimension] + freed[dimension]
    const amount = wanted ?? wholeAmount(dimension, left / 2)
    if (amount > 0 && amount <= left) return [[dimension, amount]]
    throw forbidden(
      `${parent.name}'s budget of ${renderAmount(dimension, own)} has ${wholeAmount(dimension, Math.max(0, left))} left.`,
      amount > left && left > 0
        ? "Give at most that."
        : `Do the work yourself, or ${askPeople("I need a larger budget")}`,
    )
  })
  return Object.fromEntries(given)
}
