import { randomBytes } from "node:crypto"
import { rmSync } from "node:fs"
import { asFault } from "../../core/faults.ts"
import type { Problem } from "../../core/instance.ts"
import type { Clock, Workload } from "../../core/ports.ts"
import type { IsolationKind } from "../../host/isolation.ts"
import { type RunDirectory, type RunFile, runDirectory } from "../../run/run-directory.ts"
import { createRunDirectory, runsOf } from "../../run/runs.ts"
import type { CodeRoots } from "./code-roots.ts"
import type { Trees } from "./trees.ts"

export interface RunStartOptions {
  readonly stateDirectory: string
  readonly socketPath: string
  readonly codeRoots: Pick<CodeRoots, "launch">
  readonly trees: Pick<Trees, "settle">
  readonly clock: Pick<Clock, "nowMs">
  /** What holds the processes of a run that starts now. */
  isolation(): IsolationKind
  credential(holder: Pick<RunFile, "name" | "uid" | "place" | "number">): string
}

/** Run directories of an instance that are kept. */
const runsMax = 3

/** What run.json says of the loop; `problem` where it cannot be started here. */
interface PreparedLaunch {
  readonly file: Pick<RunFile, "command" | "directory" | "claude"> & Partial<RunFile>
  readonly problem?: Problem
}

async function prepareLaunch(
  { trees, codeRoots }: Pick<RunStartOptions, "trees" | "codeRoots">,
  workload: Pick<Workload, "name" | "uid" | "spec">,
): Promise<PreparedLaunch> {
  try {
    const tree = await trees.settle(workload)
    const { command, environment, ...launch } = codeRoots.launch(workload.spec, tree)
    return { file: { ...launch, command: [...command], environment: { ...environment }, tree } }
  } catch (error) {
    const { code, whole, next } = asFault(error)
    return {
      file: { command: ["-"], directory: "-", claude: "-" },
      problem: { reason: code, message: `${whole} ${next}` },
    }
  }
}

/** The attempt is what a revision begins with. */
const attemptOf = (revision: string | undefined): string | undefined => revision?.split("-")[0]

/**
 * Makes the directory of a new run. `isStartable` is false where its loop cannot be started here:
 * then the run has exited at once with the reason, so that people see it and it is tried again.
 */
export async function createRun(
  options: RunStartOptions,
  { name, uid, revision, number, spec }: Workload,
): Promise<{ directory: RunDirectory; index: number; isStartable: boolean }> {
  const { stateDirectory, clock } = options
  const launch = await prepareLaunch(options, { name, uid, spec })
  const previous = runsOf(stateDirectory, uid)
  const last = previous.at(-1)
  const before = last === undefined ? undefined : runDirectory(last)
  const startedAtMs = clock.nowMs()
  const place = `${number}-${randomBytes(8).toString("hex")}`
  const directory = createRunDirectory(stateDirectory, {
    name,
    uid,
    place,
    number,
    revision,
    startedAtMs,
    mode: spec.mode,
    ...(spec.model !== undefined && { model: spec.model }),
    iterationsBefore:
      (before?.get("run")?.iterationsBefore ?? 0) + (before?.get("usage")?.used.iterations ?? 0),
    ...launch.file,
    isolation: options.isolation(),
    socketPath: options.socketPath,
    credential: options.credential({ name, uid, place, number }),
  })
  // Why an instance stands still between iterations outlives its processes, but not its attempt.
  const lastIteration =
    attemptOf(before?.get("run")?.revision) === attemptOf(revision)
      ? before?.get("last")
      : undefined
  if (lastIteration) directory.set("last", lastIteration)
  if (launch.problem)
    directory.set("exit", { exit: { code: 127, atMs: startedAtMs }, problem: launch.problem })
  for (const old of previous.slice(0, Math.max(0, previous.length + 1 - runsMax)))
    rmSync(old, { recursive: true, force: true })
  return { directory, index: previous.length, isStartable: launch.problem === undefined }
}
