import { rmSync } from "node:fs"
import type { Uid } from "../../core/instance.ts"
import type { Observed, Runtime, Workload } from "../../core/ports.ts"
import { createCensus } from "../../host/process-search.ts"
import { endProcesses } from "../../host/process-signals.ts"
import { processesOfInstance } from "../../host/processes.ts"
import { instanceDirectory, runsOf } from "../../run/runs.ts"
import { hasExited, observeRun } from "./local-run.ts"
import { createRun, type RunStartOptions } from "./run-start.ts"
import { openRunTable } from "./run-table.ts"
import { keepSupervisors, type SupervisorsOptions } from "./supervisors.ts"
import type { Trees } from "./trees.ts"

export interface LocalRuntimeOptions extends RunStartOptions, SupervisorsOptions {
  readonly clock: SupervisorsOptions["clock"]
  readonly trees: Pick<Trees, "settle" | "clean">
}

/**
 * Instances as detached processes of this machine. After a restart everything is read back from the
 * run directories.
 */
export function createLocalRuntime(options: LocalRuntimeOptions, signal: AbortSignal): Runtime {
  const { stateDirectory, clock, trees } = options
  const table = openRunTable(stateDirectory, clock, signal)
  const supervisors = keepSupervisors(options, table, signal)
  const census = createCensus()
  const starting = new Map<string, Promise<Observed>>()

  const begin = async (workload: Workload): Promise<Observed> => {
    const { directory, index, isStartable } = await createRun(options, workload)
    const run = table.add(directory, index)
    if (!run) throw new Error(`the run directory ${directory.path} cannot be read back`)
    if (isStartable) supervisors.start(run)
    else table.changed(run)
    return observeRun(run)
  }

  return {
    watch: table.watch,
    get: async (name) => {
      const run = table.get(name)
      return run && observeRun(run)
    },
    lives: (name) => {
      const run = table.get(name)
      return run?.watcher !== undefined && !run.exited
    },
    async start(workload) {
      const { name, uid, number } = workload
      const run = table.get(name)
      if (run && (!hasExited(run) || (run.file.uid === uid && run.number >= number)))
        return observeRun(run)
      const already = starting.get(name)
      if (already) return already
      const started = begin(workload).finally(() => starting.delete(name))
      starting.set(name, started)
      return started
    },
    async stop(name, uid) {
      const run = table.get(name)
      if (run?.file.uid === uid && !hasExited(run)) supervisors.stop(run)
    },
    async clean(name, uid: Uid) {
      const run = table.get(name)
      if (run?.file.uid === uid) table.remove(run)
      // An instance that never ran left no process to look for. Of one that ran, the supervisor saw
      // the end, unless it was killed.
      if (runsOf(stateDirectory, uid).length > 0 && (await census()).has(uid))
        await endProcesses(processesOfInstance(uid), new Set(), 0)
      const kept = await trees.clean({ name, uid })
      rmSync(instanceDirectory(stateDirectory, uid), { recursive: true, force: true })
      return kept
    },
  }
}
