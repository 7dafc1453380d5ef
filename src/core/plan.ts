import type { Beat } from "./beat.ts"
import type { FleetIndex } from "./fleet-index.ts"
import type { Readings } from "./fleet-view.ts"
import {
  desiredState,
  hasFinished,
  hasLiveRun,
  type Instance,
  type Uid,
  type Verdict,
} from "./instance.ts"
import { instanceLimits } from "./limits.ts"
import type { Account, Turn, Windows } from "./ports.ts"
import { type Family, familyOf, totalsBelow } from "./spending.ts"
import { endedTurns, type PlannedVerdict, turnRequests } from "./turn-plan.ts"
import type { WaitsByUid } from "./waits.ts"

type ByUid<T> = ReadonlyMap<Uid, T>
/**
 * Whether agents go on by themselves when a limit of the model is over, or wait until somebody
 * resumes them.
 */
export type AfterRateLimit = "continue" | "hold"
/** The fleet at one moment, as the scheduler read it. */
export interface FleetSnapshot {
  readonly policy: {
    readonly instancesMax: number
    readonly turnsMax: number
    readonly afterRateLimit?: AfterRateLimit
  }
  readonly fleet: FleetIndex
  readonly beats: ByUid<Beat>
  readonly turns: ByUid<Turn>
  readonly spent: ByUid<Account>
  readonly waits: WaitsByUid
  readonly windows: Windows["at"]
}
/** What holds look up: the readings that phases are computed from, and the instances. */
export interface Facts extends Readings {
  readonly byUid: FleetIndex["byUid"]
  readonly family: Family
  readonly windows: Windows["at"]
  readonly afterRateLimit: AfterRateLimit
}
/** A reason not to run an instance, if it applies; holds.ts has them. */
export type Hold = (instance: Instance, facts: Facts) => Verdict | undefined
/** Only what changes: a settled fleet costs no write. */
export interface Plan {
  readonly admit: readonly { instance: Instance; value: Verdict }[]
  readonly grant: readonly Turn[]
  readonly end: readonly Turn[]
  /** When time alone will change the plan; Infinity when it will not. */
  readonly wakeAtMs: number
}

const allTaken = (places: number, of: string): string =>
  places === 1 ? `The only place of ${of} is taken.` : `All ${places} places of ${of} are taken.`

/**
 * Who is admitted, whose iteration may run, whose turn is over: numbered steps over one snapshot.
 */
export function plan(snapshot: FleetSnapshot, holds: readonly Hold[], nowMs: number): Plan {
  const { policy, fleet, turns } = snapshot
  // 0 Most of a large fleet was stopped and has ended long ago: nothing of it is to be decided.
  const open = fleet.open()
  // 1 Who counts, in order.
  const ordered = rank(open, nowMs)
  // 2 Verdicts: the first hold that speaks, else a place while there is one.
  const decisions = decideVerdicts(ordered, snapshot, holds, factsOf(snapshot, nowMs))
  // 3 Turns that are proven over.
  const end = endedTurns(decisions, snapshot, nowMs)
  // 4 Iterations that run unfrozen without a turn (the table was lost, or the place is new): they
  // are a fact and count first.
  const requests = turnRequests(decisions, snapshot, end)
  const running = requests.filter(({ beat, turn }) => turn.state === "Running" && !beat.frozen)
  // 5 Grants: the longest waiting first.
  const free = policy.turnsMax - (turns.size - end.length) - running.length
  const waiting = requests
    .filter(
      ({ instance, value, beat, turn }) =>
        value.verdict === "Admitted" &&
        desiredState(instance.spec, nowMs) === "Running" &&
        (turn.state === "Wanted" || beat.frozen),
    )
    .toSorted((a, b) => a.turn.sinceMs - b.turn.sinceMs)
    .slice(0, Math.max(0, free))
  const grant = [...running, ...waiting].map(({ instance: { uid }, beat, turn }) => ({
    uid,
    id: turn.id,
    place: beat.place,
    grantedAtMs: nowMs,
  }))
  // 6 Who is not to run keeps no admission: resumed later, it asks anew.
  const counted = new Set(ordered)
  const idle: Verdict = { verdict: "Queued", reason: "NotWanted", message: "It is not to run now." }
  const withdrawn = open
    .filter((one) => !counted.has(one) && one.status.admission?.verdict === "Admitted")
    .map((instance) => ({ instance, value: idle }))
  return {
    admit: [...decisions.filter(differs), ...withdrawn],
    grant,
    end,
    wakeAtMs: nextChangeMs(decisions, open, nowMs),
  }
}

const factsOf = (
  { policy, fleet, beats, turns, spent, waits, windows }: FleetSnapshot,
  nowMs: number,
): Facts => ({
  beats,
  spent,
  waits,
  totals: totalsBelow(spent),
  turns: { used: turns.size, max: policy.turnsMax },
  nowMs,
  byUid: fleet.byUid,
  family: familyOf(spent),
  windows,
  afterRateLimit: policy.afterRateLimit ?? "continue",
})

/** Who lives keeps its place; then priority, then age. */
const rank = (open: readonly Instance[], nowMs: number): readonly Instance[] =>
  open
    .filter(
      (one) =>
        hasLiveRun(one) ||
        (desiredState(one.spec, nowMs) === "Running" &&
          one.deletedAtMs === undefined &&
          !hasFinished(one)),
    )
    .toSorted(
      (a, b) =>
        Number(hasLiveRun(b)) - Number(hasLiveRun(a)) ||
        b.spec.priority - a.spec.priority ||
        a.createdAtMs - b.createdAtMs,
    )

function decideVerdicts(
  ordered: readonly Instance[],
  { policy, fleet: { byUid }, spent }: FleetSnapshot,
  holds: readonly Hold[],
  facts: Facts,
): readonly PlannedVerdict[] {
  let room = policy.instancesMax
  const below = new Map<Uid, number>()
  const runningMax = (one: Instance): number => instanceLimits(one, spent).children.running
  const familyFull = ({ spec: { lineage } }: Instance): Verdict | undefined => {
    const owner = lineage
      .map((uid) => byUid.get(uid))
      .find((one) => one !== undefined && (below.get(one.uid) ?? 0) >= runningMax(one))
    if (!owner) return undefined
    const message = allTaken(runningMax(owner), `the descendants of ${owner.name}`)
    return { verdict: "Queued", reason: "ChildrenFull", message }
  }
  const place = (isLive: boolean): Verdict =>
    room > 0 || isLive
      ? { verdict: "Admitted", reason: "Admitted", message: "Admitted." }
      : {
          verdict: "Queued",
          reason: "FleetFull",
          message: allTaken(policy.instancesMax, "the fleet"),
        }
  return ordered.map((instance) => {
    const isLive = hasLiveRun(instance)
    const held = holds.reduce<Verdict | undefined>(
      (found, hold) => found ?? hold(instance, facts),
      undefined,
    )
    const value = held ?? (isLive ? undefined : familyFull(instance)) ?? place(isLive)
    // Who waits for others must not keep them from a place: it sleeps in the claude shim.
    if (value.verdict === "Admitted" || (isLive && value.reason !== "AwaitingInstances")) {
      room--
      for (const uid of instance.spec.lineage) below.set(uid, (below.get(uid) ?? 0) + 1)
    }
    return { instance, value }
  })
}

function differs({ instance: { status }, value }: PlannedVerdict): boolean {
  const stored = status.admission
  // A budget that was raised, but not enough, is shown as it is now.
  const showsOther = value.reason === "BudgetReached" && stored?.message !== value.message
  return (
    stored?.verdict !== value.verdict ||
    stored.reason !== value.reason ||
    stored.untilMs !== value.untilMs ||
    showsOther
  )
}

function nextChangeMs(
  decisions: readonly PlannedVerdict[],
  open: readonly Instance[],
  nowMs: number,
): number {
  const ends = [
    ...decisions.map(({ value }) => value.untilMs),
    ...open.map(({ spec }) =>
      desiredState(spec, nowMs) === "Paused" ? spec.pause?.untilMs : undefined,
    ),
  ]
  return ends.reduce((min: number, at) => Math.min(min, at ?? min), Number.POSITIVE_INFINITY)
}
