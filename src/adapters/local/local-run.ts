import type { ChildProcess } from "node:child_process"
import type { FSWatcher } from "node:fs"
import type { Observed } from "../../core/ports.ts"
import { isAlive } from "../../host/processes.ts"
import type { FileOf, RunDirectory, RunFile } from "../../run/run-directory.ts"

/** A run of this machine, as its runtime keeps it in memory. */
export interface LocalRun {
  readonly file: RunFile
  readonly number: number
  readonly directory: RunDirectory
  /** Watches the status files until the run has exited. */
  watcher?: FSWatcher
  /** The supervisor that this process started, until its own file says that it runs. */
  child?: ChildProcess
  /** Set once the run has exited: nothing of it is read again. */
  exited?: Observed
  /** How many supervisors died in a row. */
  deaths: number
  /** When the next supervisor may be started. All `steadyMs` are of performance.now(). */
  respawnAtSteadyMs: number
  /** When the supervisor was told to stop, whether or not the disk had room for the stop file. */
  stopAtSteadyMs?: number
  /** The supervisor at the last full look, where nothing was due: it reports changes by itself. */
  quietPid?: number | undefined
  looks: number
}

/** What the files and processes of a run show. */
export interface RunEvidence {
  readonly file: Pick<RunFile, "uid" | "place" | "revision" | "startedAtMs" | "loop">
  readonly number: number
  readonly exit?: FileOf<"exit"> | undefined
  readonly hasLoop: boolean
  readonly isStopping: boolean
  readonly isSupervised: boolean
}

/** A run has exited once its supervisor, which writes the exit file last, is gone too. */
export function observedFrom(evidence: RunEvidence): Observed {
  const { file, number, exit } = evidence
  const phase = phaseOf(evidence)
  const ended = phase === "Exited" ? exit : undefined
  return {
    uid: file.uid,
    number,
    place: file.place,
    revision: file.revision,
    phase,
    startedAtMs: file.startedAtMs,
    ...(file.loop !== undefined && { loop: file.loop }),
    ...(ended && { exit: ended.exit }),
    ...(ended?.problem && { problem: ended.problem }),
  }
}

function phaseOf({ exit, isStopping, isSupervised, hasLoop }: RunEvidence): Observed["phase"] {
  if (exit) return isSupervised ? "Stopping" : "Exited"
  if (isStopping) return "Stopping"
  return hasLoop ? "Running" : "Pending"
}

/** Reads what the run's files and processes show now. */
export function observeRun(run: LocalRun): Observed {
  if (run.exited) return run.exited
  const { file, number, directory } = run
  const observed = observedFrom({
    file,
    number,
    exit: directory.get("exit"),
    hasLoop: directory.get("loop") !== undefined,
    isStopping: isStopRequested(run),
    isSupervised: supervisorPid(run) !== undefined,
  })
  if (observed.phase === "Exited") run.exited = observed
  return observed
}

export const hasExited = (run: LocalRun): boolean => observeRun(run).phase === "Exited"

/** The supervisor of a run, whoever started it; undefined when none is alive. */
export function supervisorPid({ child, directory }: LocalRun): number | undefined {
  const id = directory.get("supervisor")
  if (id && isAlive(id)) return id.pid
  return child?.exitCode === null && child.signalCode === null ? child.pid : undefined
}

export const isStopRequested = ({ stopAtSteadyMs, directory }: LocalRun): boolean =>
  stopAtSteadyMs !== undefined || directory.get("stop") !== undefined
