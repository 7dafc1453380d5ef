import type { Beat } from "./beat.ts"
import { beatOf, describeInstance, ownUsage, type Readings } from "./fleet-view.ts"
import {
  desiredState,
  hasFinished,
  hasLiveRun,
  type Instance,
  isFromCurrentAttempt,
  type Verdict,
} from "./instance.ts"
import { budgetReached, lineageHold } from "./lineage.ts"
import type { Facts, Hold } from "./plan.ts"
import type { Reason } from "./reason.ts"
import { heldWords } from "./reason-words.ts"
import {
  answerMs,
  conditionHolds,
  isCurrentWait,
  parkedOf,
  questionOf,
  renderWait,
  type TargetNow,
  targetReached,
} from "./waits.ts"

/** The reasons of the system's not to run an instance; the first that speaks counts. */

const budget: Hold = (instance, facts) => {
  const words = budgetReached(instance, facts)
  return words === undefined
    ? undefined
    : { verdict: "Held", reason: "BudgetReached", message: `The budget is reached: ${words}.` }
}

/**
 * A child does not go on without those that it works for: its ancestors. One that is paused, or
 * through, holds nobody.
 */
const parentStopped: Hold = ({ spec }, { byUid, nowMs }) => {
  const held = (words: string): Verdict => ({
    verdict: "Held",
    reason: "ParentStopped",
    message: words,
  })
  for (const uid of spec.lineage) {
    const owner = byUid.get(uid)
    if (!owner || owner.deletedAtMs !== undefined)
      return held("An instance that it was spawned by was removed.")
    if (desiredState(owner.spec, nowMs) === "Stopped")
      return held(`${owner.name}, which it was spawned by, was stopped.`)
    if (hasFinished(owner) && owner.status.run?.lastExit?.outcome === "Failed")
      return held(`${owner.name}, which it was spawned by, failed.`)
  }
  return undefined
}

const limited: Hold = (instance, facts) => lineageHold(instance, facts)

const outsideWindow: Hold = ({ spec: { schedule } }, { windows, nowMs }) => {
  const window = schedule && windows(schedule, nowMs)
  if (!window || window.open) return undefined
  const { cron, minutes, timezone } = schedule
  const message = `Its schedule (${cron}, ${minutes} min, ${timezone}) is closed.`
  return { verdict: "Held", reason: "OutsideWindow", message, untilMs: window.untilMs }
}

/** What is kept of a verdict is ours alone: what was said stays in the beat, or in the wait. */
const wordsOf = (reason: Reason): string =>
  heldWords[reason] ?? "Its supervisor withholds the next iteration."

/**
 * What the supervisor met: a limit, a login that ended, a claude without its doors. Only its
 * reporter is held.
 */
const reported: Hold = (instance, readings) => {
  const beat = isFromCurrentAttempt(instance) ? beatOf(instance, readings) : undefined
  const hold = beat?.hold
  // What a person says may be what helps: then it is worth a trial.
  if (!hold || (hold.reason === "CircuitOpen" && beat?.news === "instruction")) return undefined
  const { reason, untilMs } = hold
  const verdict: Verdict = { verdict: "Held", reason, message: wordsOf(reason) }
  if (reason === "RateLimited" && readings.afterRateLimit === "hold") return verdict
  if (untilMs === undefined) return verdict
  return untilMs > readings.nowMs ? { ...verdict, untilMs } : undefined
}

/**
 * Its latest word about itself. One that does not live is started first: then its supervisor says
 * what there is.
 */
const standing = (instance: Instance, readings: Readings): Beat | undefined =>
  hasLiveRun(instance) && isFromCurrentAttempt(instance) ? beatOf(instance, readings) : undefined

/**
 * An iteration that ended as blocked is followed by none until there is something new, or its time
 * is over.
 */
const blocked: Hold = (instance, readings) => {
  const beat = standing(instance, readings)
  const { last } = beat ?? {}
  if (last?.outcome !== "BLOCKED" || beat?.news !== undefined || beat?.turn?.state === "Running")
    return undefined
  const untilMs = last.atMs + answerMs
  if (untilMs <= readings.nowMs) return undefined
  return { verdict: "Held", reason: "Blocked", message: wordsOf("Blocked"), untilMs }
}

/** A question that it put to people. Any mail may bring what it wanted to know. */
const needsAnswer: Hold = (instance, readings) => {
  const beat = standing(instance, readings)
  const question = questionOf(readings.waits.get(instance.uid))
  if (!question || beat?.news !== undefined || !isCurrentWait(question, beat, readings.nowMs))
    return undefined
  return {
    verdict: "Held",
    reason: "NeedsAnswer",
    message: wordsOf("NeedsAnswer"),
    untilMs: question.untilMs,
  }
}

const nowOf = (uid: Instance["uid"], facts: Facts): TargetNow | undefined => {
  const instance = facts.byUid.get(uid)
  return (
    instance && {
      instance,
      needsPerson: describeInstance(instance, facts).needsPerson,
      iterations: ownUsage(uid, facts).iterations,
    }
  )
}
/**
 * It waits for others: what they do wakes it, and so does a person's word. The end of each child is
 * mail, and wakes it only where mail is awaited.
 */
const awaiting: Hold = (instance, facts) => {
  const beat = standing(instance, facts)
  const parked = parkedOf(facts.waits.get(instance.uid))
  if (!parked || !isCurrentWait(parked, beat, facts.nowMs) || beat?.news === "instruction")
    return undefined
  if (parked.until === "answer" && beat?.news !== undefined) return undefined
  const reached = parked.targets.map(({ uid, iteration }) =>
    targetReached(parked.until, nowOf(uid, facts), iteration, facts.nowMs),
  )
  return conditionHolds(parked.mode, reached)
    ? undefined
    : {
        verdict: "Held",
        reason: "AwaitingInstances",
        message: renderWait(parked),
        untilMs: parked.untilMs,
      }
}

export const holds: readonly Hold[] = [
  budget,
  parentStopped,
  limited,
  outsideWindow,
  reported,
  needsAnswer,
  blocked,
  awaiting,
]
