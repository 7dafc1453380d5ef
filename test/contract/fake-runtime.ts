import { randomUUID } from "node:crypto"
import { Fault } from "../../src/core/faults.ts"
import type { Uid } from "../../src/core/instance.ts"
import type { Observed, Runtime, Workload } from "../../src/core/ports.ts"
import { topic } from "../../src/core/source.ts"

/** What runs at a place, as far as a fake runtime needs it. */
export interface FakeProcess {
  stop(): void
}
interface FakeRun {
  observed: Observed
  process?: FakeProcess
  /** Since it was told to stop, it starts nothing. */
  isStopping: boolean
}
export interface FakeRuntime extends Runtime {
  endLoop(uid: Uid): void
  processCount(uid: Uid): number
  hasTraces(uid: Uid): boolean
}

/** Runs that live in this process. `launch` starts what a supervisor and its loop would be. */
export function fakeRuntime(
  launch: (workload: Workload, place: string) => FakeProcess,
): FakeRuntime {
  const runs = new Map<string, FakeRun>()
  const precious = new Set<Uid>()
  const names = topic(async () => runs.keys())
  const runOf = (uid: Uid): FakeRun | undefined =>
    runs.values().find(({ observed }) => observed.uid === uid)
  const show = (name: string, run: FakeRun, more: Partial<Observed>): void => {
    run.observed = { ...run.observed, ...more }
    names.changed(name)
  }
  const exit = (name: string, run: FakeRun, code: number): void => {
    run.process?.stop()
    delete run.process
    show(name, run, { phase: "Exited", exit: { code, atMs: Date.now() } })
  }
  const nameOf = (run: FakeRun): string =>
    [...runs].find(([, one]) => one === run)?.[0] ?? run.observed.place
  return {
    watch: names.source,
    get: async (name) => runs.get(name)?.observed,
    lives: (name) => (runs.get(name)?.observed.phase ?? "Exited") !== "Exited",
    async start(workload) {
      const { name, uid, revision, number, spec } = workload
      const known = runs.get(name)?.observed
      if (known && (known.phase !== "Exited" || (known.uid === uid && known.number >= number)))
        return known
      if (spec.project === "precious") precious.add(uid)
      const place = randomUUID()
      const run: FakeRun = {
        observed: { uid, number, place, revision, phase: "Pending", startedAtMs: Date.now() },
        isStopping: false,
      }
      runs.set(name, run)
      if (spec.project === "missing") {
        const { code, message } = new Fault("NotFound", "There is no project missing.", "Make it.")
        show(name, run, { problem: { reason: code, message } })
        exit(name, run, 127)
      } else
        setImmediate(() => {
          if (run.isStopping) return
          run.process = launch(workload, place)
          show(name, run, { phase: "Running" })
        })
      return run.observed
    },
    async stop(name, uid) {
      const run = runs.get(name)
      if (!run || run.observed.uid !== uid || run.observed.phase === "Exited" || run.isStopping)
        return
      run.isStopping = true
      show(name, run, { phase: "Stopping" })
      setImmediate(() => exit(name, run, 143))
    },
    async clean(name, uid) {
      const run = runs.get(name)
      if (run?.observed.uid === uid) {
        run.process?.stop()
        runs.delete(name)
        names.changed(name)
      }
      return precious.has(uid) ? "its tree" : undefined
    },
    endLoop(uid) {
      const run = runOf(uid)
      if (run) exit(nameOf(run), run, 0)
    },
    processCount: (uid) => (runOf(uid)?.process === undefined ? 0 : 1),
    hasTraces: (uid) => runOf(uid) !== undefined,
  }
}
