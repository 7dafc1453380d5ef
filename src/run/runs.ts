import { mkdirSync, readdirSync, renameSync, rmSync } from "node:fs"
import { join } from "node:path"
import { syncPath } from "../host/replace-file.ts"
import { fileName, type RunDirectory, type RunFile, runDirectory } from "./run-directory.ts"

/** The run directories of a machine: `<state>/instances/<uid>/<place>/`. */

export const instanceDirectory = (stateDirectory: string, uid: string): string =>
  join(stateDirectory, "instances", uid)

/** The uids of all instances that have a directory here. */
export function instancesIn(stateDirectory: string): readonly string[] {
  try {
    return readdirSync(join(stateDirectory, "instances"))
  } catch {
    return []
  }
}

/** A directory with this prefix is being written, or was when the machine stopped. */
const draftMark = "."

/**
 * The directory appears under its place once it is complete and on the disk: an incomplete one
 * would hide the runs before it.
 */
export function createRunDirectory(stateDirectory: string, run: RunFile): RunDirectory {
  const instance = instanceDirectory(stateDirectory, run.uid)
  mkdirSync(instance, { recursive: true, mode: 0o700 })
  for (const name of readdirSync(instance))
    if (name.startsWith(draftMark)) rmSync(join(instance, name), { recursive: true, force: true })
  const draft = runDirectory(join(instance, draftMark + run.place))
  for (const path of [draft.status, draft.bin]) mkdirSync(path, { recursive: true, mode: 0o700 })
  draft.set("run", run)
  for (const path of [join(draft.status, fileName("run")), draft.status, draft.path]) syncPath(path)
  const directory = runDirectory(join(instance, run.place))
  renameSync(draft.path, directory.path)
  syncPath(instance)
  return directory
}

/**
 * The run directories of an instance, oldest first. Runs that an older version started have no
 * number: they come first, in the order of their names, which that version made to sort.
 */
export function runsOf(stateDirectory: string, uid: string): readonly string[] {
  const paths = directoriesIn(instanceDirectory(stateDirectory, uid))
  if (paths.length < 2) return paths // the usual case, and then nothing needs to be read
  return paths
    .map((path) => ({ path, number: runDirectory(path).get("run")?.number ?? 0 }))
    .sort((a, b) => a.number - b.number)
    .map(({ path }) => path)
}

/** Sorted by name, so that runs without a number keep the order of their starts. */
function directoriesIn(instance: string): string[] {
  try {
    return readdirSync(instance, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && !entry.name.startsWith(draftMark))
      .map(({ name }) => join(instance, name))
      .sort()
  } catch {
    return []
  }
}

/**
 * The number of the run at `index` of `runsOf`. A run without one is numbered by its position,
 * which is always below the numbers that were given after it.
 */
export const runNumber = ({ number }: Pick<RunFile, "number">, index: number): number =>
  number ?? index + 1
