import { randomBytes } from "node:crypto"
import { portTokenPrefix } from "../core/secrets.ts"
import { treeSearch } from "../host/process-search.ts"
import { freeze } from "../host/process-signals.ts"
import {
  find,
  isAlive,
  members,
  type ProcessId,
  type ProcessMarker,
  processesOfRun,
  type Search,
} from "../host/processes.ts"
import type { FileOf, RunDirectory, RunFile } from "../run/run-directory.ts"

/** A run as a supervisor finds it, and how its processes are found. */
export interface SupervisedRun {
  readonly directory: RunDirectory
  readonly run: RunFile
  /** The supervisor before this one. */
  readonly predecessor: FileOf<"supervisor"> | undefined
  /** The loop, if a predecessor started it. */
  readonly loop: ProcessId | undefined
  /** Of the loopback port; a running claude has its predecessor's in its settings. */
  readonly token: string
  readonly self: ReadonlySet<number>
  readonly marker: ProcessMarker
  /** A look at all of the machine. */
  readonly everywhere: Search
  /** A walk down from the loop: cheap enough for every few seconds. */
  readonly below: Search
  /** The widest search that is needed. */
  readonly search: Search
  /** Stops every process. False when some still ran at the end. */
  freezeAll(): boolean
}

/** Undefined while its supervisor lives. @throws where there is no run. */
export function findRun(directory: RunDirectory): SupervisedRun | undefined {
  const run = directory.get("run")
  if (!run) throw new Error(`${directory.path} is no run directory`)
  const predecessor = directory.get("supervisor")
  if (predecessor && predecessor.pid !== process.pid && isAlive(predecessor)) return undefined
  const self = new Set([process.pid])
  const marker = processesOfRun(run.uid, run.place)
  // What a predecessor's run has elsewhere is looked for once.
  const left = predecessor ? find(marker, self) : []
  const below = treeSearch(marker, self, () => directory.get("loop"), left)
  const everywhere: Search = () => members(marker, self)
  // In a PID namespace nothing leaves the tree. Elsewhere a look at all of the machine follows the
  // stop of what is below the loop.
  const search = run.isolation === "process tree" ? everywhere : below
  return {
    directory,
    run,
    predecessor,
    loop: directory.get("loop"),
    token: predecessor?.token ?? `${portTokenPrefix}${randomBytes(32).toString("hex")}`,
    self,
    marker,
    everywhere,
    below,
    search,
    freezeAll: () => freeze(below) && (search === below || freeze(search)),
  }
}
