import { resolve } from "node:path"
import type { Uid } from "../../core/instance.ts"
import { isDirectory } from "../../host/find-code-root.ts"
import { findRepository } from "../../host/repository.ts"
import { readLasting } from "../../run/lasting-files.ts"
import { type RunFile, runDirectory } from "../../run/run-directory.ts"
import { instanceDirectory, instancesIn, runsOf } from "../../run/runs.ts"
import type { TreeFile } from "../../run/tree-file.ts"

/** Who works in which tree, as the run directories say and as it changes. */
export interface TreeClaims {
  treeOf(uid: Uid): TreeFile | undefined
  claim(uid: Uid, claim: TreeClaim): void
  release(uid: Uid): void
  /** True when its loop has finished by its own account: it gave a shared tree up. */
  hasFinished(uid: Uid): boolean
  /** Those at work in the same repository; where there is no git, in the same directory. */
  workingIn(repositoryOrDirectory: string, except?: Uid): readonly TreeClaim[]
}
export interface TreeClaim {
  readonly name: string
  readonly tree: TreeFile
}

export function openTreeClaims(stateDirectory: string): TreeClaims {
  const claims = new Map<Uid, TreeClaim>()
  const newestRun = (uid: Uid) => {
    const newest = runsOf(stateDirectory, uid).at(-1)
    return newest === undefined ? undefined : runDirectory(newest)
  }
  // These directories are named by uids.
  for (const uid of instancesIn(stateDirectory) as Uid[]) {
    const run = newestRun(uid)?.get("run")
    const tree =
      readLasting(instanceDirectory(stateDirectory, uid), "tree") ?? (run && formerTree(run))
    if (tree) claims.set(uid, { tree, name: run?.name ?? uid })
  }
  const hasFinished = (uid: Uid): boolean => newestRun(uid)?.get("exit")?.exit.outcome !== undefined
  return {
    treeOf: (uid) => claims.get(uid)?.tree,
    claim: (uid, claim) => void claims.set(uid, claim),
    release: (uid) => void claims.delete(uid),
    hasFinished,
    workingIn: (where, except) =>
      [...claims]
        .filter(([uid, { tree }]) => uid !== except && whereOf(tree) === where && !hasFinished(uid))
        .map(([, claim]) => claim),
  }
}

/** What tells apart the trees that cannot be worked in side by side. */
export const whereOf = ({ common, path }: TreeFile): string => common ?? path

/**
 * An instance that a version before 0.2 started works in the person's tree, which is then taken.
 */
function formerTree({ command, directory }: RunFile): TreeFile | undefined {
  const project = resolve(directory, command.at(-1) ?? "")
  if (!isDirectory(project)) return undefined
  const repository = findRepository(project)
  const git = repository && { repository: repository.top, common: repository.common }
  return { own: false, path: project, project, autonomous: false, ...git }
}
