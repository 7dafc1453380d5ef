import { birthFor, newborns, spawnedEvent, withoutUnborn } from "../core/birth.ts"
import { Fault } from "../core/faults.ts"
import { type FleetIndex, fleetIndex } from "../core/fleet-index.ts"
import { holds } from "../core/holds.ts"
import type { Defaults } from "../core/instance.ts"
import { type FleetSnapshot, type Plan, plan } from "../core/plan.ts"
import type { Clock, Instances, Ledger, Reports, Timeline, Turns, Windows } from "../core/ports.ts"
import type { Source } from "../core/source.ts"
import { currentWaits } from "../core/waits.ts"
import { control, type Reconcile } from "./controller.ts"
import { isAnyStale, staleMs } from "./stale-feeds.ts"

export interface SchedulerPorts {
  readonly store: Instances
  readonly timeline: Timeline
  readonly reports: Reports
  readonly turns: Turns
  readonly ledger: Ledger
  readonly clock: Clock
  readonly windows: Windows
  policy(): FleetSnapshot["policy"]
  /** What an account keeps of the policy as it is when the account is opened. */
  defaults(): Defaults
  /** Tells that the policy changed. */
  readonly policyChanged: Source<string>
}

/** In one pass; the next one opens the rest. Turns must not wait for a thousand births. */
export const openingsMax = 100

/**
 * One pass over the fleet: open the accounts that are missing, read one snapshot, plan, write what
 * changes. Turns first: they are what agents wait for.
 */
export const reconcileFleet =
  (ports: SchedulerPorts, term: number): Reconcile<"fleet"> =>
  async () => {
    const { store, reports, turns, ledger, clock, windows, policy } = ports
    if (isAnyStale(store.replica, reports.beats, reports.waits, turns.replica, ledger.accounts))
      return { afterMs: staleMs }
    const fleet = fleetIndex(store.replica.snapshot())
    const opening = await openAccounts(ports, fleet)
    const spent = ledger.accounts.snapshot()
    const nowMs = clock.nowMs()
    const unborn = opening.isNeeded ? newborns(fleet, spent) : []
    const snapshot: FleetSnapshot = {
      policy: policy(),
      fleet: unborn.length === 0 ? fleet : withoutUnborn(fleet, spent),
      beats: reports.beats.snapshot(),
      turns: turns.replica.snapshot(),
      spent,
      waits: currentWaits(reports.waits.snapshot(), nowMs),
      windows: windows.at,
    }
    const { admit, grant, end, wakeAtMs } = plan(snapshot, holds, nowMs)
    if (grant.length + end.length > 0) await turns.set(term, grant, end)
    const isStale = await writeVerdicts(store, admit, term)
    if (opening.failure !== undefined) throw opening.failure
    if (isStale || unborn.length > 0) return { afterMs: 0 }
    return Number.isFinite(wakeAtMs) ? { afterMs: wakeAtMs - nowMs } : {}
  }

/**
 * Whoever created an instance, here its account is opened and its birth is told. The event comes
 * first: a control plane that ends in between repeats both, and the event's id makes it count once.
 * A failure keeps those instances waiting, not the others.
 */
async function openAccounts(
  { timeline, ledger, defaults }: SchedulerPorts,
  fleet: FleetIndex,
): Promise<{ readonly isNeeded: boolean; readonly failure?: unknown }> {
  const missing = newborns(fleet, ledger.accounts.snapshot())
  try {
    for (const instance of missing.slice(0, openingsMax)) {
      await timeline.append(spawnedEvent(instance))
      const accounts = ledger.accounts.snapshot()
      await ledger.open(instance.uid, birthFor(instance, defaults(), fleet, accounts))
    }
  } catch (failure) {
    return { isNeeded: true, failure }
  }
  return { isNeeded: missing.length > 0 }
}

/** True when somebody changed or removed one of them meanwhile: then all is planned again. */
async function writeVerdicts(
  store: Pick<Instances, "updateStatus">,
  admit: Plan["admit"],
  term: number,
): Promise<boolean> {
  let isStale = false
  for (const { instance, value } of admit) {
    try {
      await store.updateStatus(instance, "admission", { ...value, term })
    } catch (error) {
      if (!(error instanceof Fault) || (error.code !== "Conflict" && error.code !== "NotFound"))
        throw error
      isStale = true
    }
  }
  return isStale
}

/** Every change of anything is a change of the fleet. */
const asFleet = (source: Source): Source<"fleet"> =>
  async function* (signal) {
    for await (const _ of source(signal)) yield "fleet"
  }

export const schedule = (
  ports: SchedulerPorts,
  term: number,
  report: (key: string, error: unknown) => void,
  signal: AbortSignal,
): Promise<void> =>
  control(
    {
      sources: [
        ports.store.replica.watch,
        ports.reports.beats.watch,
        ports.reports.waits.watch,
        ports.turns.replica.watch,
        ports.policyChanged,
      ].map((source) => asFleet(source)),
      reconcile: reconcileFleet(ports, term),
      workersMax: 1,
      clock: ports.clock,
      report,
    },
    signal,
  )
