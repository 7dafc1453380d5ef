import { completeBirths } from "../core/birth.ts"
import { Fault } from "../core/faults.ts"
import { indexOf } from "../core/fleet-index.ts"
import { holds } from "../core/holds.ts"
import { type FleetSnapshot, plan } from "../core/plan.ts"
import type { Clock, Instances, Ledger, Reports, Timeline, Turns, Windows } from "../core/ports.ts"
import type { Source } from "../core/source.ts"
import { control, type Reconcile } from "./controller.ts"

export interface SchedulerPorts {
  readonly store: Instances
  readonly timeline: Timeline
  readonly reports: Reports
  readonly turns: Turns
  readonly ledger: Ledger
  readonly clock: Clock
  readonly windows: Windows
  policy(): FleetSnapshot["policy"]
  /** Tells that the policy changed. */
  readonly policyChanged: Source<string>
}

/**
 * One pass over the fleet: read one snapshot, plan, write what changes. Turns first: they are what
 * agents wait for.
 */
export const reconcileFleet =
  (
    { store, reports, turns, ledger, clock, windows, policy }: SchedulerPorts,
    term: number,
  ): Reconcile<"fleet"> =>
  async () => {
    const [instances, beats, granted, spent, waits] = await Promise.all([
      store.list(),
      reports.beats(),
      turns.list(),
      ledger.spent(),
      reports.waits(),
    ])
    const nowMs = clock.nowMs()
    const { admit, grant, end, wakeAtMs } = plan(
      {
        policy: policy(),
        fleet: indexOf(instances),
        beats,
        turns: granted,
        spent,
        waits,
        windows: windows.at,
      },
      holds,
      nowMs,
    )
    if (grant.length + end.length > 0) await turns.set(term, grant, end)
    let conflict: Fault | undefined
    for (const { instance, value } of admit) {
      try {
        await store.updateStatus(instance, "admission", { ...value, term })
      } catch (error) {
        // Somebody changed or removed it meanwhile: the others are served, then all is planned
        // again.
        if (!(error instanceof Fault) || (error.code !== "Conflict" && error.code !== "NotFound"))
          throw error
        conflict = error
      }
    }
    if (conflict) return { afterMs: 0 }
    return Number.isFinite(wakeAtMs) ? { afterMs: wakeAtMs - nowMs } : {}
  }

/** Every change of anything is a change of the fleet. */
const asFleet = (source: Source): Source<"fleet"> =>
  async function* (signal) {
    for await (const _ of source(signal)) yield "fleet"
  }

export async function schedule(
  ports: SchedulerPorts,
  term: number,
  report: (key: string, error: unknown) => void,
  signal: AbortSignal,
): Promise<void> {
  await completeBirths(ports).catch((error: unknown) => report("births", error))
  await control(
    {
      sources: [ports.store.watch, ports.reports.watch, ports.turns.watch, ports.policyChanged].map(
        (source) => asFleet(source),
      ),
      reconcile: reconcileFleet(ports, term),
      workersMax: 1,
      clock: ports.clock,
      report,
    },
    signal,
  )
}
