import { watch } from "node:fs"
import type { Clock } from "../../core/ports.ts"
import { type Source, topic } from "../../core/source.ts"
import { fileName, type RunDirectory, runDirectory } from "../../run/run-directory.ts"
import { instancesIn, runNumber, runsOf } from "../../run/runs.ts"
import { type LocalRun, supervisorPid } from "./local-run.ts"

/** How soon after its exit file the supervisor is looked for again. */
const settleMs = 10

/** The newest run of each name, and who is told when one changes. */
export interface RunTable {
  /** Names. */
  readonly watch: Source
  get(name: string): LocalRun | undefined
  all(): Iterable<LocalRun>
  changed(run: LocalRun): void
  /** `index`: position of the directory among its instance's runs. Undefined when it is damaged. */
  add(directory: RunDirectory, index: number): LocalRun | undefined
  remove(run: LocalRun): void
}

/**
 * Finds all runs that are on the disk, and follows the status files of those that have not exited.
 */
export function openRunTable(
  stateDirectory: string,
  clock: Pick<Clock, "after">,
  signal: AbortSignal,
): RunTable {
  const runs = new Map<string, LocalRun>()
  const names = topic(async () => runs.keys())
  const changed = ({ file }: LocalRun): void => names.changed(file.name)
  /**
   * The supervisor ends just after its exit file appears, and only then is nothing left. The end of
   * a process that is not our child cannot be awaited: it is looked for again and again.
   */
  const tellExit = (run: LocalRun): void => {
    if (signal.aborted) return
    if (supervisorPid(run) !== undefined) {
      clock.after(settleMs, () => tellExit(run))
      return
    }
    run.watcher?.close()
    changed(run)
  }
  const follow = (run: LocalRun): void => {
    run.watcher = watch(run.directory.status, (_event, file) => {
      if (file === fileName("loop")) changed(run)
      if (file === fileName("exit")) tellExit(run)
    })
    run.watcher.on("error", () => {}) // the directory is gone: the next look finds out
  }
  const table: RunTable = {
    watch: names.source,
    get: (name) => runs.get(name),
    all: () => runs.values(),
    changed,
    add(directory, index) {
      const file = directory.get("run")
      if (!file) return undefined
      const run: LocalRun = {
        file,
        number: runNumber(file, index),
        directory,
        deaths: 0,
        respawnAtSteadyMs: 0,
        looks: 0,
      }
      if (!directory.get("exit")) follow(run)
      runs.get(file.name)?.watcher?.close()
      runs.set(file.name, run)
      return run
    },
    remove(run) {
      run.watcher?.close()
      runs.delete(run.file.name)
    },
  }
  for (const uid of instancesIn(stateDirectory)) addNewest(table, runsOf(stateDirectory, uid))
  signal.addEventListener("abort", () => {
    for (const { watcher } of runs.values()) watcher?.close()
  })
  return table
}

/**
 * Two instances may have left runs under one name. The run that has not exited is kept in the
 * table, else the younger; the other is what an interrupted removal left.
 */
function addNewest(table: RunTable, paths: readonly string[]): void {
  const index = paths.findLastIndex((path) => runDirectory(path).get("run"))
  const directory = runDirectory(paths[index] ?? "")
  const file = directory.get("run")
  if (!file) return
  const known = table.get(file.name)
  const replaces =
    !known ||
    !directory.get("exit") ||
    (known.directory.get("exit") && known.file.startedAtMs < file.startedAtMs)
  if (replaces) table.add(directory, index)
}
