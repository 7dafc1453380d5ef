import { budgetReached } from "./budget.ts"
import type { Instance, Uid, Verdict } from "./instance.ts"
import type { Snapshot } from "./plan.ts"

/** A reason of the system's not to run an instance; the first that speaks counts. */
export type Hold = (
  instance: Instance,
  snapshot: Snapshot,
  byUid: ReadonlyMap<Uid, Instance>,
  nowMs: number,
) => Verdict | undefined

const budget: Hold = (instance, { spent }, byUid) => {
  const words = budgetReached(instance, byUid, spent)
  return words === undefined
    ? undefined
    : { verdict: "Held", reason: "BudgetReached", message: `The budget is reached: ${words}.` }
}

/** What the supervisor met: a rate limit, a login that ended. Only its reporter is held. */
const reported: Hold = ({ uid, status }, { beats }, _byUid, nowMs) => {
  const beat = beats.get(uid)
  if (!beat?.hold || beat.place !== status.run?.place || beat.hold.untilMs <= nowMs) return undefined
  const { reason, message, untilMs } = beat.hold
  return { verdict: "Held", reason, message, untilMs }
}

export const holds: readonly Hold[] = [budget, reported]
