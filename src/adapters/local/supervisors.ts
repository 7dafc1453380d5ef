import { spawn } from "node:child_process"
import { closeSync, openSync } from "node:fs"
import { join } from "node:path"
import type { Clock } from "../../core/ports.ts"
import { endProcesses } from "../../host/process-signals.ts"
import { processExists, processesOfRun } from "../../host/processes.ts"
import { writePressing } from "../../host/reserve.ts"
import {
  hasExited,
  isStopRequested,
  type LocalRun,
  observeRun,
  supervisorPid,
} from "./local-run.ts"
import type { RunTable } from "./run-table.ts"

export interface SupervisorsOptions {
  readonly stateDirectory: string
  readonly clock: Clock
  /** argv that runs a supervisor on a run directory. */
  readonly supervisor: readonly string[]
  environment(): NodeJS.ProcessEnv
  report(name: string, error: unknown): void
}
export interface Supervisors {
  start(run: LocalRun): void
  /** Tells the supervisor to stop, whether or not the disk has room for it. */
  stop(run: LocalRun): void
}

/** How often supervisors are looked at: they need not be children of this process. */
const lookMs = 1000
/** Every so many looks read the run directory, in case a change was not announced. */
const fullLookEvery = 20
/** A supervisor that keeps dying is started again after this long at most. */
const respawnMsMax = 60_000
/** What a supervisor may take to stop: its own grace, its last report to the gateway, and some. */
const stopMsMax = 40_000

/** After so many supervisors died in a row: a quarter of a second, doubled each time. */
export const respawnDelayMs = (deaths: number): number =>
  Math.min(respawnMsMax, 250 * 2 ** Math.min(deaths, 20))

/** Keeps a supervisor on each run that has not exited, and ends a run whose supervisor hangs. */
export function keepSupervisors(
  options: SupervisorsOptions,
  table: RunTable,
  signal: AbortSignal,
): Supervisors {
  const start = (run: LocalRun): void => {
    const child = spawnSupervisor(options, run)
    run.child = child
    child.once("error", (error) => options.report(run.file.name, error))
    child.once("exit", () => {
      look(run)
      table.changed(run)
    })
    child.unref()
  }
  /** A new supervisor adopts what still runs, or reports how the loop ended. */
  const respawn = (run: LocalRun, steadyMs: number): void => {
    if (steadyMs < run.respawnAtSteadyMs) return
    if (steadyMs - run.respawnAtSteadyMs > respawnMsMax) run.deaths = 0 // the last one lived
    run.respawnAtSteadyMs = steadyMs + respawnDelayMs(run.deaths++)
    start(run)
  }
  const look = (run: LocalRun): void => {
    const isKnown = table.get(run.file.name) === run
    if (signal.aborted || !isKnown || run.exited || isQuiet(run)) return
    run.quietPid = undefined
    if (hasExited(run)) {
      table.changed(run)
      return
    }
    const steadyMs = performance.now()
    if (isStopRequested(run)) run.stopAtSteadyMs ??= steadyMs
    if (run.stopAtSteadyMs !== undefined && steadyMs - run.stopAtSteadyMs > stopMsMax)
      endHungRun(options, table, run)
    else if (supervisorPid(run) === undefined) respawn(run, steadyMs)
    if (run.stopAtSteadyMs === undefined) run.quietPid = supervisorPid(run)
  }
  const timer = setInterval(() => {
    for (const run of table.all())
      try {
        look(run)
      } catch (error) {
        options.report(run.file.name, error)
      }
  }, lookMs)
  signal.addEventListener("abort", () => clearInterval(timer))
  return {
    start,
    stop(run) {
      const isRepeated = isStopRequested(run)
      run.stopAtSteadyMs ??= performance.now()
      run.quietPid = undefined
      // A supervisor that is only just starting finds the file; on a full disk it is signalled
      // again.
      if (!isRepeated)
        writePressing(options.stateDirectory, () =>
          run.directory.set("stop", { atMs: options.clock.nowMs() }),
        )
      const pid = supervisorPid(run)
      if (pid !== undefined) process.kill(pid, "SIGTERM")
      if (!isRepeated) table.changed(run)
    },
  }
}

/**
 * A full look is most of what an idle fleet costs, and a live supervisor announces changes by
 * itself: in between, its pid is enough.
 */
const isQuiet = (run: LocalRun): boolean =>
  ++run.looks % fullLookEvery !== 0 && run.quietPid !== undefined && processExists(run.quietPid)

function spawnSupervisor(
  { supervisor, stateDirectory, environment }: SupervisorsOptions,
  run: LocalRun,
) {
  const log = openSync(join(run.directory.path, "supervisor.log"), "a", 0o600)
  try {
    const [program = "", ...args] = supervisor
    return spawn(program, [...args, run.directory.path], {
      cwd: stateDirectory, // not where serve was started, which may be an agent's tree
      detached: true,
      stdio: ["ignore", log, log],
      env: environment(),
    })
  } finally {
    closeSync(log)
  }
}

/** Kills a supervisor that did not stop in time (it hangs, or is frozen), and its whole run. */
function endHungRun(
  { stateDirectory, clock, report }: SupervisorsOptions,
  table: RunTable,
  run: LocalRun,
): void {
  const pid = supervisorPid(run)
  if (pid !== undefined) process.kill(pid, "SIGKILL")
  endProcesses(processesOfRun(run.file.uid, run.file.place), new Set(), 0)
    .then(() => {
      const exit = { code: 137, atMs: clock.nowMs() }
      writePressing(stateDirectory, () => run.directory.set("exit", { exit }))
      // Nothing of the run is left, even where the disk had no room for the exit file.
      run.exited ??= { ...observeRun(run), phase: "Exited", exit }
      table.changed(run)
    })
    .catch((error: unknown) => report(run.file.name, error))
}
