/** A long file: a run has one state, and each step of its life looks at all of it. */
import { type ChildProcess, spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import { closeSync, type FSWatcher, openSync, rmSync, watch } from "node:fs"
import { join } from "node:path"
import { asFault } from "../../core/faults.ts"
import type { Problem, Uid } from "../../core/instance.ts"
import type { Clock, Observed, Runtime, Workload } from "../../core/ports.ts"
import { topic } from "../../core/source.ts"
import type { IsolationKind } from "../../host/isolation.ts"
import { createCensus } from "../../host/process-search.ts"
import {
  end,
  isAlive,
  processExists,
  processesOfInstance,
  processesOfRun,
} from "../../host/processes.ts"
import { writePressing } from "../../host/reserve.ts"
import { fileName, type RunDirectory, type RunFile, runDirectory } from "../../run/run-directory.ts"
import {
  createRunDirectory,
  instanceDirectory,
  instancesIn,
  runNumber,
  runsOf,
} from "../../run/runs.ts"
import type { CodeRoots } from "./code-roots.ts"
import type { Trees } from "./trees.ts"

export interface LocalRuntimeOptions {
  readonly stateDirectory: string
  readonly socketPath: string
  readonly codeRoots: Pick<CodeRoots, "launch">
  readonly trees: Pick<Trees, "settle" | "clean">
  readonly clock: Clock
  /** argv that runs a supervisor on a run directory. */
  readonly supervisor: readonly string[]
  environment(): NodeJS.ProcessEnv
  /** What holds the processes of a run that starts now. */
  isolation(): IsolationKind
  credential(holder: Pick<RunFile, "name" | "uid" | "place" | "number">): string
  report(name: string, error: unknown): void
}
/** How often supervisors are looked at: none of them need be our child. */
const lookMs = 1000
/** A look that reads what stands in the run directory, also where nobody told of a change. */
const wholeLookEvery = 20
/** A supervisor that keeps dying is started again after this long, at the most. */
const respawnMsMax = 60_000
const settleMs = 10
/** What a supervisor may take to stop: its own grace, the last words to the gateway, and some. */
const stopMsMax = 40_000
/** Run directories of an instance that are kept. */
const runsMax = 3

interface Run {
  readonly file: RunFile
  readonly number: number
  readonly directory: RunDirectory
  watcher?: FSWatcher
  /** The supervisor that was started here, until it says itself that it is there. */
  child?: ChildProcess
  /** Once exited, always: nothing of it is read again. */
  exited?: Observed
  /**
   * Supervisors that died, and when the next may be started. These moments are of the steady clock,
   * which nobody sets back.
   */
  deaths: number
  respawnAtMs: number
  /** When it was told to stop, whether or not that could be written. */
  toldAtMs?: number
  /**
   * The pid of the supervisor that lived at the last whole look, if nothing was to be expected of
   * it; and how many looks there were.
   */
  quiet?: number | undefined
  looks: number
}

const isTold = ({ toldAtMs, directory }: Run): boolean =>
  toldAtMs !== undefined || directory.get("stop") !== undefined

/**
 * Instances as detached processes of this machine. Everything is read back from the run directories
 * after a restart.
 */
export function createLocalRuntime(options: LocalRuntimeOptions, signal: AbortSignal): Runtime {
  const { stateDirectory, clock, codeRoots, trees } = options
  const runs = new Map<string, Run>()
  const names = topic(async () => runs.keys())
  const census = createCensus()

  const supervisorOf = ({ child, directory }: Run): number | undefined => {
    const id = directory.get("supervisor")
    if (id && isAlive(id)) return id.pid
    return child?.exitCode === null && child.signalCode === null ? child.pid : undefined
  }
  const supervised = (run: Run): boolean => supervisorOf(run) !== undefined
  /**
   * A supervisor ends just after its last word; only then is nothing left. One that is not our
   * child has no event for it.
   */
  const settle = (run: Run): void => {
    if (signal.aborted) return
    if (supervised(run)) clock.after(settleMs, () => settle(run))
    else {
      run.watcher?.close()
      names.changed(run.file.name)
    }
  }
  const remember = (directory: RunDirectory, index: number): Run | undefined => {
    const file = directory.get("run")
    if (!file) return undefined
    const run: Run = {
      file,
      number: runNumber(file, index),
      directory,
      deaths: 0,
      respawnAtMs: 0,
      looks: 0,
    }
    if (!directory.get("exit")) {
      run.watcher = watch(directory.status, (_event, changed) => {
        if (changed === fileName("loop")) names.changed(file.name)
        if (changed === fileName("exit")) settle(run)
      })
      run.watcher.on("error", () => {}) // the directory went away: the next look says so
    }
    runs.set(file.name, run)
    return run
  }
  for (const uid of instancesIn(stateDirectory)) {
    const paths = runsOf(stateDirectory, uid)
    const index = paths.findLastIndex((path) => runDirectory(path).get("run"))
    const newest = runDirectory(paths[index] ?? "")
    const file = newest.get("run")
    const known = file && runs.get(file.name)
    // Two instances with one name: what has not exited, else the younger, is observed; the other
    // is what an interrupted removal left.
    const replaces =
      !known ||
      !newest.get("exit") ||
      (known.directory.get("exit") && known.file.startedAtMs < file.startedAtMs)
    if (file && replaces) remember(newest, index)
  }

  const supervise = (run: Run): void => {
    const log = openSync(join(run.directory.path, "supervisor.log"), "a", 0o600)
    const [program = "", ...args] = options.supervisor
    const child = spawn(program, [...args, run.directory.path], {
      cwd: stateDirectory, // not where serve was started, which may be an agent's tree
      detached: true,
      stdio: ["ignore", log, log],
      env: options.environment(),
    })
    closeSync(log)
    run.child = child
    child.once("error", (error) => options.report(run.file.name, error))
    child.once("exit", () => {
      look(run)
      names.changed(run.file.name)
    })
    child.unref()
  }
  /**
   * A supervisor that is gone while its run has not ended is started again: it adopts what still
   * runs, or reports how it ended.
   */
  const look = (run: Run): void => {
    if (signal.aborted || run.exited) return
    // What a whole look reads would be most of what an idle fleet costs: a supervisor that lives
    // tells by itself what is to be told.
    if (++run.looks % wholeLookEvery !== 0 && run.quiet !== undefined && processExists(run.quiet))
      return
    run.quiet = undefined
    if (observe(run).phase === "Exited") {
      names.changed(run.file.name)
      return
    }
    const nowMs = performance.now()
    if (isTold(run)) run.toldAtMs ??= nowMs
    if (run.toldAtMs !== undefined && nowMs - run.toldAtMs > stopMsMax) put(run)
    else if (!supervised(run) && nowMs >= run.respawnAtMs) {
      if (nowMs - run.respawnAtMs > respawnMsMax) run.deaths = 0 // the last one lived
      run.respawnAtMs = nowMs + Math.min(respawnMsMax, 250 * 2 ** run.deaths++)
      supervise(run)
    }
    if (run.toldAtMs === undefined) run.quiet = supervisorOf(run)
  }
  /**
   * A supervisor that does not stop in time (it hangs, or is itself stopped) is ended with
   * everything of its run.
   */
  const put = (run: Run): void => {
    const pid = supervisorOf(run)
    if (pid !== undefined) process.kill(pid, "SIGKILL")
    end(processesOfRun(run.file.uid, run.file.place), new Set(), 0)
      .then(() => {
        const exit = { code: 137, atMs: clock.nowMs() }
        writePressing(stateDirectory, () => run.directory.set("exit", { exit }))
        // Nothing of it is left, whether or not the disk can be told.
        run.exited ??= { ...observe(run), phase: "Exited", exit }
        names.changed(run.file.name)
      })
      .catch((error: unknown) => options.report(run.file.name, error))
  }
  const timer = setInterval(() => {
    for (const run of runs.values()) {
      try {
        look(run)
      } catch (error) {
        options.report(run.file.name, error)
      }
    }
  }, lookMs)
  signal.addEventListener("abort", () => {
    clearInterval(timer)
    for (const { watcher } of runs.values()) watcher?.close()
  })

  const observe = (run: Run): Observed => {
    if (run.exited) return run.exited
    const { file, directory } = run
    const exit = directory.get("exit")
    const ended = exit && !supervised(run) ? exit : undefined
    const observed: Observed = {
      uid: file.uid,
      number: run.number,
      place: file.place,
      revision: file.revision,
      startedAtMs: file.startedAtMs,
      ...(file.loop !== undefined && { loop: file.loop }),
      phase: ended
        ? "Exited"
        : exit || isTold(run)
          ? "Stopping"
          : directory.get("loop")
            ? "Running"
            : "Pending",
      ...(ended && { exit: ended.exit }),
      ...(ended?.problem && { problem: ended.problem }),
    }
    if (ended) run.exited = observed
    return observed
  }

  const launchOf = async (
    one: Pick<Workload, "name" | "uid" | "spec">,
  ): Promise<{
    file: Partial<RunFile> & Pick<RunFile, "command" | "directory" | "claude">
    problem?: Problem
  }> => {
    try {
      const tree = await trees.settle(one)
      const { command, environment, ...launch } = codeRoots.launch(one.spec, tree)
      return { file: { ...launch, command: [...command], environment: { ...environment }, tree } }
    } catch (error) {
      const { code, whole, next } = asFault(error)
      return {
        file: { command: ["-"], directory: "-", claude: "-" },
        problem: { reason: code, message: `${whole} ${next}` },
      }
    }
  }

  return {
    watch: names.source,
    get: async (name) => {
      const run = runs.get(name)
      return run && observe(run)
    },
    lives: (name) => {
      const run = runs.get(name)
      return run?.watcher !== undefined && !run.exited
    },
    async start({ name, uid, revision, number, spec }) {
      const known = runs.get(name)
      if (
        known &&
        (observe(known).phase !== "Exited" || (known.file.uid === uid && known.number >= number))
      )
        return observe(known)
      const previous = runsOf(stateDirectory, uid)
      const last = previous.at(-1)
      const before = last === undefined ? undefined : runDirectory(last)
      const launch = await launchOf({ name, uid, spec })
      const startedAtMs = clock.nowMs()
      const place = `${number}-${randomBytes(8).toString("hex")}`
      const created = createRunDirectory(stateDirectory, {
        name,
        uid,
        place,
        number,
        revision,
        startedAtMs,
        mode: spec.mode,
        ...(spec.model !== undefined && { model: spec.model }),
        iterationsBefore:
          (before?.get("run")?.iterationsBefore ?? 0) +
          (before?.get("usage")?.used.iterations ?? 0),
        ...launch.file,
        isolation: options.isolation(),
        socketPath: options.socketPath,
        credential: options.credential({ name, uid, place, number }),
      })
      // Why an instance stands still between iterations is not forgotten with its processes; a new
      // attempt begins without.
      const kept =
        before?.get("run")?.revision.split("-")[0] === revision.split("-")[0]
          ? before?.get("last")
          : undefined
      if (kept) created.set("last", kept)
      // What cannot be started here is a run that ended at once, with its reason: it is tried
      // again, and people see why.
      if (launch.problem)
        created.set("exit", { exit: { code: 127, atMs: startedAtMs }, problem: launch.problem })
      known?.watcher?.close()
      const run = remember(created, previous.length)
      if (!run) throw new Error(`the run directory ${created.path} cannot be read back`)
      for (const old of previous.slice(0, Math.max(0, previous.length + 1 - runsMax)))
        rmSync(old, { recursive: true, force: true })
      if (launch.problem) names.changed(name)
      else supervise(run)
      return observe(run)
    },
    async stop(name, uid) {
      const run = runs.get(name)
      if (!run || run.file.uid !== uid || observe(run).phase === "Exited") return
      const told = isTold(run)
      run.toldAtMs ??= performance.now()
      // On a full disk it is signalled all the same; a supervisor that starts just then is told
      // again.
      if (!told)
        writePressing(stateDirectory, () => run.directory.set("stop", { atMs: clock.nowMs() }))
      run.quiet = undefined
      const pid = supervisorOf(run)
      if (pid !== undefined) process.kill(pid, "SIGTERM")
      if (!told) names.changed(name)
    },
    async clean(name, uid: Uid) {
      const run = runs.get(name)
      if (run?.file.uid === uid) {
        run.watcher?.close()
        runs.delete(name)
      }
      // What never ran has left nothing to look for; of what ran, its supervisor saw the end, or it
      // was killed.
      if (runsOf(stateDirectory, uid).length > 0 && (await census()).has(uid))
        await end(processesOfInstance(uid), new Set(), 0)
      const kept = await trees.clean({ name, uid })
      rmSync(instanceDirectory(stateDirectory, uid), { recursive: true, force: true })
      return kept
    },
  }
}
