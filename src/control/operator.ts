import { isDeepStrictEqual } from "node:util"
import { decide } from "../core/decide.ts"
import { type Exit, finished, type Instance, type Run, revisionOf } from "../core/instance.ts"
import type { Bus, Clock, InstanceStore, Runtime } from "../core/ports.ts"
import { control, type Reconcile } from "./controller.ts"

export interface OperatorPorts {
  readonly store: InstanceStore
  readonly runtime: Runtime
  readonly bus: Bus
  readonly clock: Clock
  newId(prefix: string): string
}

/** One act for one instance: writes what is seen, then does the one thing that is due. The only user of the Runtime. */
export const reconcileInstance =
  ({ store, runtime, bus, clock, newId }: OperatorPorts, term: number): Reconcile<string> =>
  async (name) => {
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
    ): Promise<void> => bus.append({ id, uid: instance.uid, kind, message, ...(outcome && { outcome }), atMs: clock.nowMs() })

    let current = wanted
    const write = async (value: Omit<Run, "term">): Promise<void> => {
      if (!current) return
      const { term: _term, ...before } = current.status.run ?? { term }
      if (isDeepStrictEqual(before, value)) return
      const was = current.status.run
      current = await store.updateStatus(current, "run", { ...value, term })
      if (value.phase === "Exited" && (was?.phase !== "Exited" || was.place !== value.place))
        await say(current, "Exited", `exit-${value.place}`, exitWords(value), value.lastExit?.outcome)
    }
    if (run) await write(run)
    // Mail that waits for an instance that will not run again by itself goes back to its sender.
    if (current && (finished(current) || (current.spec.state === "Stopped" && observed?.phase === "Exited")))
      await bus.returnAll(current.uid)

    switch (act) {
      case "start": {
        if (!wanted) break
        const started = await runtime.start({ name, uid: wanted.uid, revision, spec: wanted.spec })
        const restarts = run?.revision === started.revision ? run.restarts : 0
        // Written at once: the gateway lets a supervisor in only at the place that stands here.
        await write({
          phase: started.phase,
          revision,
          place: started.place,
          startedAtMs: started.startedAtMs,
          restarts,
          ...(run?.lastExit && { lastExit: run.lastExit }),
        })
        await say(
          wanted,
          "Started",
          `start-${started.place}`,
          restarts === 0 ? "The loop was started." : `The loop was started again (restart ${restarts}).`,
        )
        break
      }
      case "stop":
        if (observed) await runtime.stop(name, observed.uid)
        break
      case "release":
        if (!wanted) break
        await bus.returnAll(wanted.uid)
        await runtime.clean(name, wanted.uid)
        await store.release(wanted)
        await say(wanted, "Removed", newId("e"), `${name} was removed.`)
        break
      default:
    }
    return afterMs === undefined ? {} : { afterMs }
  }

const exitWords = ({ lastExit, problem }: Omit<Run, "term">): string =>
  problem?.message ??
  (lastExit?.outcome === "Complete" ? "The loop ended as complete." : `The loop exited with code ${lastExit?.code ?? "unknown"}.`)

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
      clock: ports.clock,
      report,
    },
    signal,
  )
