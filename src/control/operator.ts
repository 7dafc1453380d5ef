import { isDeepStrictEqual } from "node:util"
import { type Decision, decide } from "../core/decide.ts"
import { hasFinished, type Instance, type Run, type Spec } from "../core/instance.ts"
import { effectiveSpec } from "../core/limits.ts"
import type {
  Clock,
  Instances,
  Ledger,
  Mailboxes,
  Observed,
  Reports,
  Runtime,
  Timeline,
} from "../core/ports.ts"
import { revisionOf } from "../core/revision.ts"
import { type Accounts, isBorn } from "../core/spending.ts"
import { control, type Reconcile } from "./controller.ts"
import { mailEndToParent } from "./parent-mail.ts"
import { isAnyStale, staleMs } from "./stale-feeds.ts"

export interface OperatorPorts {
  readonly store: Instances
  readonly runtime: Runtime
  readonly mailboxes: Mailboxes
  readonly reports: Reports
  readonly timeline: Timeline
  readonly ledger: Pick<Ledger, "accounts">
  readonly clock: Clock
  newId(prefix: string): string
}

/** A run before a leader has put its term on it. */
type RunFacts = Omit<Run, "term">

/** What an instance without an account waits, until the scheduler has opened it. */
const unbornMs = 1000

/**
 * One act for one instance: writes what is seen, then does the one thing that is due. The only user
 * of the Runtime.
 */
export const reconcileInstance =
  (ports: OperatorPorts, term: number): Reconcile<string> =>
  async (name) => {
    const { store, runtime, ledger, clock } = ports
    if (isAnyStale(store.replica, ledger.accounts)) return { afterMs: staleMs }
    const observed = await runtime.get(name)
    const known = store.replica.get(name)
    // What runs may be of an instance that this replica has not heard of yet.
    const isStranger = observed !== undefined && observed.uid !== known?.uid
    const wanted = isStranger ? await store.read(name) : known
    const accounts = ledger.accounts.snapshot()
    const revision = wanted ? wantedRevision(wanted, accounts) : ""
    const decision = decide(wanted, revision, observed, clock.nowMs())
    if (!wanted) {
      if (observed) await endUnwanted(ports, name, observed, decision)
      return {}
    }
    const current = decision.run ? await writeRun(ports, term, wanted, decision.run) : wanted
    if (hasEnded(current, observed)) {
      await ports.mailboxes.returnAll(current.uid)
      await mailEndToParent(ports, current)
    }
    switch (decision.act) {
      case "start":
        if (!isBorn(wanted.uid, accounts)) return { afterMs: unbornMs }
        await start(ports, term, current, {
          revision,
          number: nextRunNumber(wanted, observed),
          before: decision.run,
          spec: effectiveSpec(wanted, accounts),
        })
        break
      case "stop":
        if (observed) await runtime.stop(name, observed.uid)
        break
      case "release":
        await release(ports, wanted)
        break
      default:
    }
    return decision.afterMs === undefined ? {} : { afterMs: decision.afterMs }
  }

/** The status may lag behind the runtime, and the runtime may have lost what it ran. */
const nextRunNumber = ({ uid, status }: Instance, observed: Observed | undefined): number =>
  Math.max(status.run?.number ?? 0, observed?.uid === uid ? observed.number : 0) + 1

/** Without its account the model may be unknown: what runs then is not taken for outdated. */
const wantedRevision = (instance: Instance, accounts: Accounts): string =>
  isBorn(instance.uid, accounts)
    ? revisionOf(effectiveSpec(instance, accounts))
    : (instance.status.run?.revision ?? revisionOf(instance.spec))

/**
 * It will not run again by itself: its mail goes back to the senders, and its parent learns of it.
 */
const hasEnded = (instance: Instance, observed: Observed | undefined): boolean =>
  hasFinished(instance) || (instance.spec.state === "Stopped" && observed?.phase === "Exited")

/**
 * Events come before the status that they follow from: a control plane that ends in between finds
 * the same difference again, and the event's id makes it count once.
 */
async function writeRun(
  { store, timeline, clock }: Pick<OperatorPorts, "store" | "timeline" | "clock">,
  term: number,
  instance: Instance,
  run: RunFacts,
): Promise<Instance> {
  const former = instance.status.run
  const { term: _term, ...before } = former ?? { term }
  if (isDeepStrictEqual(before, run)) return instance
  const { uid } = instance
  const atMs = clock.nowMs()
  const isNewPlace = former?.place !== run.place
  if (isNewPlace)
    await timeline.append({
      id: `start-${run.place}`,
      uid,
      kind: "Started",
      message: startMessage(run),
      atMs,
    })
  if (run.phase === "Exited" && (isNewPlace || former.phase !== "Exited"))
    await timeline.append({
      id: `exit-${run.place}`,
      uid,
      kind: "Exited",
      message: exitMessage(run),
      ...(run.lastExit?.outcome && { outcome: run.lastExit.outcome }),
      atMs,
    })
  return store.updateStatus(instance, "run", { ...run, term })
}

interface StartPlan {
  readonly revision: string
  readonly number: number
  /** The run before, as it is written now. */
  readonly before: RunFacts | undefined
  readonly spec: Spec
}
async function start(
  ports: OperatorPorts,
  term: number,
  current: Instance,
  { revision, number, before, spec }: StartPlan,
): Promise<void> {
  const { name, uid } = current
  const started = await ports.runtime.start({ name, uid, revision, number, spec })
  // Written at once: the gateway lets a supervisor in only at the place that stands here.
  await writeRun(ports, term, current, {
    phase: started.phase,
    revision,
    place: started.place,
    number: started.number,
    startedAtMs: started.startedAtMs,
    restarts: before?.revision === started.revision ? before.restarts : 0,
    ...(before?.lastExit && { lastExit: before.lastExit }),
  })
}

/** Of what nobody wants any more. */
async function endUnwanted(
  { runtime, timeline, clock, newId }: OperatorPorts,
  name: string,
  { uid }: Observed,
  { act }: Decision,
): Promise<void> {
  if (act === "stop") await runtime.stop(name, uid)
  if (act !== "clean") return
  const kept = await runtime.clean(name, uid)
  if (kept === undefined) return
  const message = removedMessage(name, kept)
  await timeline.append({ id: newId("e"), uid, kind: "Removed", message, atMs: clock.nowMs() })
}

async function release(ports: OperatorPorts, instance: Instance): Promise<void> {
  const { store, runtime, mailboxes, timeline, clock } = ports
  const { name, uid } = instance
  await mailboxes.returnAll(uid)
  const kept = await runtime.clean(name, uid)
  // Only now: cleaning is what makes room on a full disk.
  await mailEndToParent(ports, { ...instance, spec: { ...instance.spec, state: "Stopped" } })
  const tell = (): Promise<void> =>
    timeline.append({
      id: `removed-${uid}`.slice(0, 64),
      uid,
      kind: "Removed",
      message: removedMessage(name, kept),
      atMs: clock.nowMs(),
    })
  // Whoever sees that it is gone finds in the timeline what was kept. Without room for the event,
  // the release makes some.
  const isTold = await tell().then(
    () => true,
    () => false,
  )
  await store.release(instance)
  if (!isTold) await tell()
}
const removedMessage = (name: string, kept: string | undefined): string =>
  `${name} was removed.${kept === undefined ? "" : ` Kept: ${kept}.`}`

const startMessage = ({ restarts }: RunFacts): string =>
  restarts === 0 ? "The loop started." : `The loop started again (restart ${restarts}).`

const exitMessage = ({ lastExit, problem }: RunFacts): string =>
  problem?.message ??
  (lastExit?.outcome === "Complete"
    ? "The loop finished: its work is complete."
    : `The loop exited with code ${lastExit?.code ?? "unknown"}.`)

/** Runs until the signal; several instances at once, one act at a time for each. */
export const operate = (
  ports: OperatorPorts,
  term: number,
  report: (key: string, error: unknown) => void,
  signal: AbortSignal,
): Promise<void> =>
  control(
    {
      sources: [ports.store.replica.watch, ports.runtime.watch],
      reconcile: reconcileInstance(ports, term),
      workersMax: 16,
      // What runs costs money, and people wait for its end: it goes before the cleaning up after
      // thousands that never ran.
      isUrgent: ports.runtime.lives,
      clock: ports.clock,
      report,
    },
    signal,
  )
