import { Fault } from "../src/core/faults.ts"
import type { Budget, Children, Instance, Spec } from "../src/core/instance.ts"
import { childLimit, childrenWithin, committed, familyOf, type Relations } from "../src/core/lineage.ts"
import { noUsage, type Usage } from "../src/core/link.ts"
import type { Readings } from "../src/core/outline.ts"

/** What an instance may give to one that it spawns: nothing that it has not itself. The leading scheduler decides again at admission. */

const hourMs = 3_600_000

export const relationsOf = (instances: readonly Instance[], { spent, totals }: Readings): Relations => ({
  byUid: new Map(instances.map((one) => [one.uid, one])),
  ...{ spent, totals, family: familyOf(spent) },
})

const ask = (text: string): string => `message_instances {"to":["@operators"],"question":true,"text":"${text}"}`
const refused = (what: string, next: string): Fault => new Fault("Forbidden", what, next)

export interface AskedChild {
  readonly project?: string | undefined
  readonly repository?: string | undefined
  readonly loop?: string | undefined
  readonly model?: string | undefined
  readonly priority?: number | undefined
  readonly schedule?: Spec["schedule"]
  readonly children?: Partial<Children> | undefined
}

/** @throws Forbidden for what its parent has not itself, and when the parent may have no more children. */
export function checkChild(parent: Instance, asked: AskedChild, relations: Relations): void {
  const limit = childLimit([...parent.spec.lineage, parent.uid], undefined, relations)
  if (limit) throw refused(`${limit}.`, `Do the work yourself, or ${ask("may I spawn more?")}`)
  const { spec } = parent
  const same = (field: "project" | "repository" | "loop" | "model"): void => {
    const wanted = asked[field]
    if (wanted === undefined || wanted === spec[field]) return
    throw refused(
      `A child works with its parent's ${field}, ${spec[field] ?? "the default"}, not ${wanted}.`,
      `Leave ${field} out, or ${ask("please spawn …")}`,
    )
  }
  same("project")
  same("repository")
  same("loop")
  same("model")
  if (asked.schedule) throw refused("A child works in its parent's windows.", "Leave schedule out.")
  if (asked.priority !== undefined && asked.priority > spec.priority)
    throw refused(`A child's priority is at most its parent's, ${spec.priority}.`, "Give a lower one, or none.")
}

export const childrenOf = (parent: Children, asked: Partial<Children> | undefined): Children =>
  childrenWithin(parent, { ...childrenWithin(parent, parent), ...asked })

const amounts = ({ usd, tokens, iterations, ms }: Usage): Required<Budget> => ({ usd, tokens, iterations, hours: ms / hourMs })
const dimensions = ["usd", "tokens", "iterations", "hours"] as const
const whole = (dimension: (typeof dimensions)[number], value: number): number =>
  dimension === "tokens" || dimension === "iterations" ? Math.floor(value) : Math.floor(value * 1e6) / 1e6

/**
 * The budget of a child: a part of what its parent has left, set aside for it; half of that where nothing is asked. What the parent itself is
 * not limited in, the child need not be. @throws Forbidden when there is not so much left.
 */
export function budgetWithin(parent: Instance, asked: Budget, relations: Relations, replaces: Usage = noUsage): Budget {
  const taken = amounts(committed(parent.uid, relations))
  const freed = amounts(replaces)
  const given = dimensions.flatMap((dimension): [string, number][] => {
    const own = parent.spec.budget[dimension]
    const wanted = asked[dimension]
    if (own === undefined) return wanted === undefined ? [] : [[dimension, wanted]]
    const left = own - taken[dimension] + freed[dimension]
    const amount = wanted ?? whole(dimension, left / 2)
    if (amount > 0 && amount <= left) return [[dimension, amount]]
    throw refused(
      `Of ${parent.name}'s budget of ${own} ${dimension}, ${whole(dimension, Math.max(0, left))} are left.`,
      amount > left && left > 0 ? `Give at most that.` : `Do the work yourself, or ${ask("I need a larger budget")}`,
    )
  })
  return Object.fromEntries(given)
}
