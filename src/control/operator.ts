import { isDeepStrictEqual } from "node:util"
import { decide } from "../core/decide.ts"
import { DiskFull, Fault } from "../core/faults.ts"
import { indexOf } from "../core/fleet-index.ts"
import { type Exit, hasFinished, type Instance, type Run } from "../core/instance.ts"
import type { Mail } from "../core/mail.ts"
import type {
  Clock,
  Instances,
  Mailboxes,
  Observed,
  Reports,
  Runtime,
  Timeline,
} from "../core/ports.ts"
import { revisionOf } from "../core/revision.ts"
import { counted } from "../core/view.ts"
import { control, type Reconcile } from "./controller.ts"

export interface OperatorPorts {
  readonly store: Instances
  readonly runtime: Runtime
  readonly mailboxes: Mailboxes
  readonly reports: Reports
  readonly timeline: Timeline
  readonly clock: Clock
  newId(prefix: string): string
}

/**
 * One act for one instance: writes what is seen, then does the one thing that is due. The only user
 * of the Runtime.
 */
export const reconcileInstance =
  (ports: OperatorPorts, term: number): Reconcile<string> =>
  async (name) => {
    const { store, runtime, mailboxes, timeline, clock, newId } = ports
    const wanted = await store.get(name)
    const observed = await runtime.get(name)
    const revision = wanted ? revisionOf(wanted.spec) : ""
    const { act, run, afterMs } = decide(wanted, revision, observed, clock.nowMs())
    const say = (
      instance: Instance,
      kind: "Started" | "Exited" | "Removed",
      id: string,
      message: string,
      outcome?: Exit["outcome"],
    ): Promise<void> =>
      timeline.append({
        id,
        uid: instance.uid,
        kind,
        message,
        ...(outcome && { outcome }),
        atMs: clock.nowMs(),
      })

    let current = wanted
    const write = async (value: Omit<Run, "term">): Promise<void> => {
      if (!current) return
      const { term: _term, ...before } = current.status.run ?? { term }
      if (isDeepStrictEqual(before, value)) return
      const was = current.status.run
      current = await store.updateStatus(current, "run", { ...value, term })
      if (value.phase === "Exited" && (was?.phase !== "Exited" || was.place !== value.place))
        await say(
          current,
          "Exited",
          `exit-${value.place}`,
          exitWords(value),
          value.lastExit?.outcome,
        )
    }
    if (run) await write(run)
    // Mail that waits for an instance that will not run again by itself goes back to its sender,
    // and whoever spawned it learns of its end.
    if (
      current &&
      (hasFinished(current) || (current.spec.state === "Stopped" && observed?.phase === "Exited"))
    ) {
      await mailboxes.returnAll(current.uid)
      await tellParent(ports, current)
    }

    switch (act) {
      case "start": {
        if (!wanted) break
        const started = await runtime.start({
          name,
          uid: wanted.uid,
          revision,
          number: nextRunNumber(wanted, observed),
          spec: wanted.spec,
        })
        const restarts = run?.revision === started.revision ? run.restarts : 0
        // Written at once: the gateway lets a supervisor in only at the place that stands here.
        await write({
          phase: started.phase,
          revision,
          place: started.place,
          number: started.number,
          startedAtMs: started.startedAtMs,
          restarts,
          ...(run?.lastExit && { lastExit: run.lastExit }),
        })
        await say(
          wanted,
          "Started",
          `start-${started.place}`,
          restarts === 0
            ? "The loop was started."
            : `The loop was started again (restart ${restarts}).`,
        )
        break
      }
      case "stop":
        if (observed) await runtime.stop(name, observed.uid)
        break
      case "clean": {
        if (!observed) break
        const kept = await runtime.clean(name, observed.uid)
        if (kept !== undefined)
          await timeline.append({
            id: newId("e"),
            uid: observed.uid,
            kind: "Removed",
            message: removedWords(name, kept),
            atMs: clock.nowMs(),
          })
        break
      }
      case "release": {
        if (!wanted) break
        await mailboxes.returnAll(wanted.uid)
        const kept = await runtime.clean(name, wanted.uid)
        // Behind what makes room on a full disk.
        await tellParent(ports, { ...wanted, spec: { ...wanted.spec, state: "Stopped" } })
        // Told before it is released: whoever sees that it is gone finds what was kept. Without
        // room it is told behind what makes some.
        const tell = (): Promise<void> =>
          say(wanted, "Removed", `removed-${wanted.uid}`.slice(0, 64), removedWords(name, kept))
        const isTold = await tell().then(
          () => true,
          () => false,
        )
        await store.release(wanted)
        if (!isTold) await tell()
        break
      }
      default:
    }
    return afterMs === undefined ? {} : { afterMs }
  }

/** The status may lag behind the runtime, and the runtime may have lost what it ran. */
const nextRunNumber = ({ uid, status }: Instance, observed: Observed | undefined): number =>
  Math.max(status.run?.number ?? 0, observed?.uid === uid ? observed.number : 0) + 1

/**
 * The end of a child is mailed to its parent, once for each run: with its last message, and what it
 * left. A parent that ended is told nothing.
 */
async function tellParent(
  { store, mailboxes, reports, clock }: OperatorPorts,
  child: Instance,
): Promise<void> {
  const uid = child.spec.lineage.at(-1)
  const parent = uid && indexOf(await store.list()).byUid.get(uid)
  if (
    !parent ||
    parent.deletedAtMs !== undefined ||
    parent.spec.state === "Stopped" ||
    hasFinished(parent)
  )
    return
  const { run } = child.status
  const { last, work } = (await reports.beats()).get(child.uid) ?? {}
  const outcome = run?.lastExit?.outcome
  const how =
    outcome === "Complete" ? "is complete" : outcome === "Failed" ? "failed" : "was stopped"
  const words = last
    ? ` Its last message, of iteration ${last.iteration} (${last.outcome}):\n${last.text}`
    : ""
  const commits = work?.commits === undefined ? "its work" : counted(work.commits, "commit")
  const made =
    work?.own && work.branch !== undefined ? ` It left ${commits} on branch ${work.branch}.` : ""
  const mail: Mail = {
    id: `end-${run?.place ?? child.uid}`.slice(0, 64),
    from: `instance ${child.name}`,
    authority: "peer",
    text: `${child.name}, which you spawned, ${how}.${made}${words}`,
    urgency: "next-iteration",
    atMs: clock.nowMs(),
  }
  try {
    await mailboxes.send(parent.uid, mail)
  } catch (error) {
    // Neither a full inbox nor a full disk keeps the child's end from being dealt with: its parent
    // finds it in the timeline.
    if (!(error instanceof DiskFull) && !(error instanceof Fault && error.code === "RateLimited"))
      throw error
  }
}

const removedWords = (name: string, kept: string | undefined): string =>
  `${name} was removed.${kept === undefined ? "" : ` Kept: ${kept}.`}`

const exitWords = ({ lastExit, problem }: Omit<Run, "term">): string =>
  problem?.message ??
  (lastExit?.outcome === "Complete"
    ? "The loop ended as complete."
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
      sources: [ports.store.watch, ports.runtime.watch],
      reconcile: reconcileInstance(ports, term),
      workersMax: 16,
      // What runs costs money, and people wait for its end: a thousand that never ran are forgotten
      // behind it.
      isUrgent: ports.runtime.lives,
      clock: ports.clock,
      report,
    },
    signal,
  )
