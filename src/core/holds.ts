import { budgetReached } from "./budget.ts"
import type { Hold } from "./plan.ts"

/** The reasons of the system's not to run an instance; the first that speaks counts. */

const budget: Hold = (instance, { byUid, totals }) => {
  const words = budgetReached(instance, byUid, totals)
  return words === undefined
    ? undefined
    : { verdict: "Held", reason: "BudgetReached", message: `The budget is reached: ${words}.` }
}

/** What the supervisor met: a rate limit, a login that ended. Only its reporter is held. */
const reported: Hold = ({ uid, status }, { beats, nowMs }) => {
  const beat = beats.get(uid)
  if (!beat?.hold || beat.place !== status.run?.place || beat.hold.untilMs <= nowMs) return undefined
  const { reason, message, untilMs } = beat.hold
  return { verdict: "Held", reason, message, untilMs }
}

export const holds: readonly Hold[] = [budget, reported]
