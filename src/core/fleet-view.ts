import type { Beat } from "./beat.ts"
import type { Instance, Uid } from "./instance.ts"
import { instanceLimits } from "./limits.ts"
import { phaseOf } from "./phase.ts"
import { type PhaseReport, phases } from "./phase-report.ts"
import type { Account, Clock, Ledger, Reports, Turns } from "./ports.ts"
import { totalsBelow } from "./spending.ts"
import type { Limits } from "./tool.ts"
import { noUsage, type Usage } from "./usage.ts"
import { oneLine, spanOf } from "./view.ts"
import { currentWaits, type WaitsByUid } from "./waits.ts"

/**
 * What moves in a fleet, as it was read for one answer: all that phases, usage and activity are
 * computed from.
 */
export interface Readings {
  readonly beats: ReadonlyMap<Uid, Beat>
  readonly spent: ReadonlyMap<Uid, Account>
  /** What each and all its descendants used. */
  readonly totals: ReadonlyMap<Uid, Usage>
  readonly waits: WaitsByUid
  readonly turns: { readonly used: number; readonly max: number }
  readonly nowMs: number
}

export interface Readable {
  readonly reports: Pick<Reports, "beats" | "waits">
  readonly turns: Pick<Turns, "replica">
  readonly ledger: Pick<Ledger, "accounts">
  readonly clock: Pick<Clock, "nowMs">
  limits(): Pick<Limits, "turnsMax">
}

export async function readingsOf({
  reports,
  turns,
  ledger,
  clock,
  limits,
}: Readable): Promise<Readings> {
  const spent = ledger.accounts.snapshot()
  const nowMs = clock.nowMs()
  return {
    beats: reports.beats.snapshot(),
    spent,
    totals: totalsBelow(spent),
    waits: currentWaits(reports.waits.snapshot(), nowMs),
    turns: { used: turns.replica.snapshot().size, max: limits().turnsMax },
    nowMs,
  }
}

/** Its own use, without what its descendants used. */
export const ownUsage = (uid: Uid, { spent }: Readings): Usage => spent.get(uid)?.used ?? noUsage

/** The beat of the place that counts; a former place's last word says nothing. */
export const beatOf = ({ uid, status }: Instance, { beats }: Readings): Beat | undefined => {
  const beat = beats.get(uid)
  return beat && beat.place === status.run?.place ? beat : undefined
}

/**
 * Of those that were stopped and have ended, which are most of a large fleet: nothing but a change
 * of the instance changes it.
 */
const ended = new WeakMap<Instance, PhaseReport>()

export function describeInstance(instance: Instance, readings: Readings): PhaseReport {
  const known = ended.get(instance)
  if (known) return known
  const report = phaseOf(instance, {
    beat: readings.beats.get(instance.uid),
    turns: readings.turns,
    iterations: ownUsage(instance.uid, readings).iterations,
    waits: readings.waits.get(instance.uid),
    nowMs: readings.nowMs,
  })
  if (report.phase === "Stopped") ended.set(instance, report)
  return report
}

/** The iteration it is in; between two of them, how many are done. */
export const iterationOf = (instance: Instance, readings: Readings): number =>
  ownUsage(instance.uid, readings).iterations +
  (beatOf(instance, readings)?.turn?.state === "Running" ? 1 : 0)

/** Which tool its agent uses now, on what, in the agent's words; or nothing. */
export const activityOf = (
  instance: Instance,
  readings: Readings,
): { seconds: number; untrusted: string } | undefined => {
  const activity = beatOf(instance, readings)?.activity
  return (
    activity && {
      seconds: Math.max(0, Math.round((readings.nowMs - activity.sinceMs) / 1000)),
      untrusted: `${oneLine(activity.tool, 120)}: ${oneLine(activity.summary, 120)}`,
    }
  )
}

/** To the millionth, as Claude Code itself counts; the rest is the noise of adding floats. */
export const dollars = (usd: number): number => Math.round(usd * 1e6) / 1e6

/** Money and tokens with all descendants', because a budget covers them; iterations of its own. */
export const usageOf = (
  { uid }: Instance,
  readings: Readings,
): { usd: number; tokens: number; iterations: number } => {
  const { usd, tokens } = readings.totals.get(uid) ?? noUsage
  return { usd: dollars(usd), tokens, iterations: ownUsage(uid, readings).iterations }
}

/** `Running. In iteration 3 ...`; a reason that begins with the phase does not repeat it. */
export const phaseAndWhy = (phase: string, why: string): string =>
  why.startsWith(phase) ? why : `${phase}. ${why}`

/** One instance in a list; what others wrote is in `untrusted`, each in a field of its own. */
export function fleetViewOf(
  instance: Instance,
  readings: Readings,
  report: PhaseReport = describeInstance(instance, readings),
) {
  const activity = activityOf(instance, readings)
  const { project } = instance.spec
  const { budget } = instanceLimits(instance, readings.spent)
  const work = beatOf(instance, readings)?.work
  const untrusted = {
    ...(report.untrusted !== undefined && { said: report.untrusted }),
    ...(activity && { activity: `${activity.untrusted} (${spanOf(activity.seconds * 1000)})` }),
    ...(work?.branch !== undefined && { branch: work.branch }),
  }
  return {
    name: instance.name,
    project,
    phase: report.phase,
    why: report.why,
    ...(Object.keys(untrusted).length > 0 && { untrusted }),
    iteration: iterationOf(instance, readings),
    usd: usageOf(instance, readings).usd,
    ...(budget.usd !== undefined && { budgetUsd: budget.usd }),
    ...(work?.branch !== undefined && work.commits !== undefined && { commits: work.commits }),
  }
}

/** Who needs a person first, then the newest; names make the order total. */
export interface Rank {
  readonly phase: number
  readonly createdAtMs: number
  readonly name: string
}
export interface Ranked extends Rank {
  readonly instance: Instance
  readonly report: PhaseReport
}
const rankOfPhase = new Map(phases.map((phase, index) => [phase, index]))
/** One object for each of what may be ten thousand. */
export function rankedOf(instance: Instance, readings: Readings): Ranked {
  const report = describeInstance(instance, readings)
  const { createdAtMs, name } = instance
  return { phase: rankOfPhase.get(report.phase) ?? 0, createdAtMs, name, instance, report }
}
/** The first so many, in order: of ten thousand a page is looked for, not all sorted. */
export function firstRanked<T extends Rank>(all: readonly T[], count: number): readonly T[] {
  const first: T[] = []
  for (const one of all) {
    const last = first.at(-1)
    if (first.length === count && last && byRank(one, last) >= 0) continue
    let low = 0
    for (let high = first.length; low < high; ) {
      const middle = (low + high) >> 1
      if (byRank(first[middle] ?? one, one) <= 0) low = middle + 1
      else high = middle
    }
    first.splice(low, 0, one)
    if (first.length > count) first.pop()
  }
  return first
}
export const byRank = (a: Rank, b: Rank): number =>
  a.phase - b.phase || b.createdAtMs - a.createdAtMs || compareNames(a.name, b.name)
function compareNames(a: string, b: string): number {
  if (a === b) return 0
  return a < b ? -1 : 1
}
