import type { Beat } from "./beat.ts"
import { freezes } from "./directive.ts"
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
  const { policy, fleet, beats, turns } = snapshot
  const { byUid } = fleet
  const { spent, waits, windows } = snapshot
  const used = { used: turns.size, max: policy.turnsMax }
  const totals = totalsBelow(spent)
  const { afterRateLimit = "continue" } = policy
  const facts: Facts = {
    beats,
    spent,
    waits,
    totals,
    turns: used,
    nowMs,
    byUid,
    family: familyOf(spent),
    windows,
    afterRateLimit,
  }

  // 0 Most of a large fleet was stopped and has ended long ago: nothing of it is to be decided.
  const open = fleet.open()

  // 1 Who counts, in order: who lives keeps its place, then priority, then age.
  const ordered = open
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

  // 2 Verdicts: the first hold that speaks, else a place while there is one.
  let room = policy.instancesMax
  const below = new Map<Uid, number>()
  const runningMax = (one: Instance): number => instanceLimits(one, spent).children.running
  const fullOf = ({ spec: { lineage } }: Instance): Verdict | undefined => {
    const owner = lineage
      .map((uid) => byUid.get(uid))
      .find((one) => one !== undefined && (below.get(one.uid) ?? 0) >= runningMax(one))
    if (!owner) return undefined
    const message = allTaken(runningMax(owner), `the descendants of ${owner.name}`)
    return { verdict: "Queued", reason: "ChildrenFull", message }
  }
  const verdicts = ordered.map((instance) => {
    const held = holds.reduce<Verdict | undefined>(
      (found, hold) => found ?? hold(instance, facts),
      undefined,
    )
    const full = hasLiveRun(instance) ? undefined : fullOf(instance)
    const value: Verdict =
      held ??
      full ??
      (room > 0 || hasLiveRun(instance)
        ? { verdict: "Admitted", reason: "Admitted", message: "Admitted." }
        : {
            verdict: "Queued",
            reason: "FleetFull",
            message: allTaken(policy.instancesMax, "the fleet"),
          })
    // Who waits for others must not keep them from a place: it sleeps in the claude shim.
    if (
      value.verdict === "Admitted" ||
      (hasLiveRun(instance) && value.reason !== "AwaitingInstances")
    ) {
      room--
      for (const uid of instance.spec.lineage) below.set(uid, (below.get(uid) ?? 0) + 1)
    }
    return { instance, value }
  })

  // 3 Turns that are proven over. Frozen as wanted also ends one: going on needs a turn again.
  // Silence proves nothing, so it keeps its turn.
  const wantsFreeze = new Set(
    verdicts
      .filter(({ instance, value }) => freezes(instance.spec, value, nowMs) !== undefined)
      .map(({ instance }) => instance.uid),
  )
  const over = ({ uid, id, place, grantedAtMs }: Turn): boolean => {
    const instance = byUid.get(uid)
    const beat = beats.get(uid)
    if (!instance || !hasLiveRun(instance) || instance.status.run?.place !== place) return true
    return (
      beat?.place === place &&
      (beat.turn?.id !== id ||
        (beat.frozen && beat.turn.grantedAtMs === grantedAtMs && wantsFreeze.has(uid)))
    )
  }
  const end = [...turns.values()].filter(over)
  const ended = new Set(end.map(({ uid }) => uid))
  const held = (uid: Uid): boolean => turns.has(uid) && !ended.has(uid)

  // 4 Iterations that run unfrozen without a turn (the table was lost, or the place is new): they
  // are a fact and count first.
  const asking = verdicts.flatMap(({ instance, value }) => {
    const beat = beats.get(instance.uid)
    return beat?.turn &&
      beat.place === instance.status.run?.place &&
      hasLiveRun(instance) &&
      !held(instance.uid)
      ? [{ instance, value, beat, turn: beat.turn }]
      : []
  })
  const turnOf = ({ instance: { uid }, beat, turn }: (typeof asking)[number]): Turn => ({
    uid,
    id: turn.id,
    place: beat.place,
    grantedAtMs: nowMs,
  })
  const running = asking.filter(({ beat, turn }) => turn.state === "Running" && !beat.frozen)

  // 5 Grants: the longest waiting first.
  const free = policy.turnsMax - (turns.size - end.length) - running.length
  const waiting = asking
    .filter(
      ({ instance, value, beat, turn }) =>
        value.verdict === "Admitted" &&
        desiredState(instance.spec, nowMs) === "Running" &&
        (turn.state === "Wanted" || beat.frozen),
    )
    .toSorted((a, b) => a.turn.sinceMs - b.turn.sinceMs)
    .slice(0, Math.max(0, free))

  // 6 Who is not to run keeps no admission: resumed later, it asks anew.
  const counted = new Set(ordered)
  const idle: Verdict = { verdict: "Queued", reason: "NotWanted", message: "It is not to run now." }
  const withdrawn = open
    .filter((one) => !counted.has(one) && one.status.admission?.verdict === "Admitted")
    .map((instance) => ({ instance, value: idle }))
  const changed = verdicts.filter(({ instance: { status }, value }) => {
    const was = status.admission
    // A budget that was raised, but not enough, is shown as it is now.
    const said = value.reason === "BudgetReached" && was?.message !== value.message
    return (
      was?.verdict !== value.verdict ||
      was.reason !== value.reason ||
      was.untilMs !== value.untilMs ||
      said
    )
  })
  const admit = [...changed, ...withdrawn]
  const ends = [
    ...verdicts.map(({ value }) => value.untilMs),
    ...open.map(({ spec }) =>
      desiredState(spec, nowMs) === "Paused" ? spec.pause?.untilMs : undefined,
    ),
  ]
  const wakeAtMs = ends.reduce(
    (min: number, at) => Math.min(min, at ?? min),
    Number.POSITIVE_INFINITY,
  )
  return { admit, grant: [...running, ...waiting].map(turnOf), end, wakeAtMs }
}
