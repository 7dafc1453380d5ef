import { mkdirSync, rmSync, statSync } from "node:fs"
import { join } from "node:path"
import type { Instance, Spec } from "../../core/instance.ts"
import type { Foreseen } from "../../core/ports.ts"
import type { TrustedFilters } from "../../core/workspace.ts"
import { ownTree } from "../../core/workspace.ts"
import { armGit, commitOf, gitIn } from "../../host/git.ts"
import { checkFilters } from "../../host/git-filters.ts"
import type { Repository } from "../../host/repository.ts"
import { readLasting, writeLasting } from "../../run/lasting-files.ts"
import { instanceDirectory } from "../../run/runs.ts"
import { type TreeFile, treePath } from "../../run/tree-file.ts"
import type { CodeRoots } from "./code-roots.ts"
import type { ReleasedTrees } from "./kept-trees.ts"
import {
  guessLocation,
  type LocateOptions,
  locateProject,
  type ProjectLocation,
} from "./project-location.ts"
import { openTreeClaims, type TreeClaims, whereOf } from "./tree-claims.ts"

export interface TreesOptions {
  readonly stateDirectory: string
  readonly codeRoots: Pick<CodeRoots, "layoutOf" | "launch">
  /** What `owner/name` is appended to. */
  repositories(): string
  /** Filters of repositories' own configuration that a checkout may run. */
  trusted(): TrustedFilters
  readonly kept: Pick<ReleasedTrees, "release" | "releasedBefore">
}
type Who = Pick<Instance, "name" | "uid" | "spec">
/**
 * The work trees of this machine's instances: who works where, decided when an instance is first
 * started and kept for its life.
 */
export interface Trees {
  /**
   * The tree of an instance, decided now if it has none. @throws Fault when it cannot have what it
   * asks for.
   */
  settle(one: Who): Promise<TreeFile>
  /**
   * What settle would say now. `others`: instances that may not have been started yet. @throws as
   * settle, and when no loop could be started.
   */
  foresee(spec: Spec, others: readonly Who[]): Promise<Foreseen>
  /**
   * Takes the tree of an instance away of which nothing runs, unless that could lose work. What was
   * kept, in words.
   */
  clean(one: Pick<Instance, "name" | "uid">): Promise<string | undefined>
}

interface Context extends LocateOptions, TreesOptions {
  readonly codeRoots: TreesOptions["codeRoots"]
  readonly claims: TreeClaims
}

export function createTrees(options: TreesOptions): Trees {
  const { stateDirectory, kept } = options
  const claims = openTreeClaims(stateDirectory)
  const clonePath = (repository: string): string =>
    join(stateDirectory, "clones", `${repository}.git`)
  const context: Context = { ...options, claims, clonePath }
  return {
    settle: (one) => settle(context, one),
    foresee: (spec, others) => foresee(context, spec, others),
    async clean({ name, uid }) {
      const tree = claims.treeOf(uid)
      if (!tree) return kept.releasedBefore({ name, uid })
      const begun = readLasting(instanceDirectory(stateDirectory, uid), "begun")
      const keptWork = tree.own ? await kept.release({ name, uid, tree, begun }) : undefined
      claims.release(uid)
      return keptWork
    },
  }
}

async function settle(context: Context, { name, uid, spec }: Who): Promise<TreeFile> {
  const { stateDirectory, claims, trusted } = context
  const withPolicy = (tree: TreeFile): TreeFile => ({ ...tree, trustedFilters: trusted() })
  const hadFinished = claims.hasFinished(uid)
  const location =
    claims.treeOf(uid) && !hadFinished ? undefined : await locateProject(context, spec)
  // No await from here on: two starts at once must not both find the tree free.
  const before = claims.treeOf(uid)
  // An instance that finished gave a shared tree up; started afresh, it may find somebody in it.
  const isTaken =
    before !== undefined &&
    hadFinished &&
    !before.own &&
    spec.workspace === "auto" &&
    claims.workingIn(whereOf(before), uid).length > 0
  if (before && !isTaken) return withPolicy(before)
  if (!location) throw new Error(`nothing was found out about the tree of ${name}`)
  const others = claims.workingIn(location.repository?.common ?? location.scope, uid)
  const tree = chooseTree(context, { name, uid, spec }, location, others.length > 0)
  const instance = instanceDirectory(stateDirectory, uid)
  mkdirSync(instance, { recursive: true, mode: 0o700 })
  if (isTaken) rmSync(join(instance, "begun.json"), { force: true })
  writeLasting(instance, "tree", tree)
  claims.claim(uid, { tree, name })
  return withPolicy(tree)
}

async function foresee(context: Context, spec: Spec, instances: readonly Who[]): Promise<Foreseen> {
  const { claims, codeRoots } = context
  const location = await locateProject(context, spec)
  const guesses = new Map<string, string | undefined>()
  const guess = (one: Spec): string | undefined => {
    const key = JSON.stringify([one.codeRoot, one.project, one.repository])
    if (!guesses.has(key)) guesses.set(key, guessLocation(context, one))
    return guesses.get(key)
  }
  const working = claims.workingIn(location.repository?.common ?? location.scope)
  // Instances that were spawned before this one and have no tree yet will get theirs first.
  const coming = instances.filter(
    (one) => claims.treeOf(one.uid) === undefined && guess(one.spec) === guess(spec),
  )
  const isTaken = working.length + coming.length > 0
  const treeFor = (name: string, uid: string): TreeFile =>
    chooseTree(context, { name, uid, spec }, location, isTaken)
  const tree = treeFor("", "")
  const { loop } = codeRoots.launch(spec, tree)
  if (tree.own && tree.url === undefined) await checkCheckout(context, tree)
  const sharing = tree.own ? [] : working.filter((one) => one.tree.path === tree.path)
  return {
    loop,
    sharedWith: sharing.map(({ name }) => name),
    at(name, uid) {
      const { own, path, branch } = treeFor(name, uid ?? "")
      return {
        ...((!own || uid !== undefined) && { path }),
        ...(branch !== undefined && { branch }),
      }
    },
  }
}

function chooseTree(
  { stateDirectory, repositories, claims }: Context,
  { name, uid, spec }: { name: string; uid: string; spec: Spec },
  { directory, scope, repository, inside, root, autonomous }: ProjectLocation,
  isTaken: boolean,
): TreeFile {
  const isOwn = ownTree(spec, { git: repository !== undefined, taken: isTaken })
  if (!isOwn || !repository)
    return {
      own: false,
      path: scope,
      project: directory,
      ...(repository && { repository: repository.top, common: repository.common }),
      autonomous,
    }
  const path = treePath(stateDirectory, name, uid)
  const from =
    parentTree(claims, spec, repository) ??
    (spec.repository === undefined ? repository.top : undefined)
  return {
    own: true,
    path,
    project: join(path, inside),
    repository: repository.top,
    common: repository.common,
    ...(root !== undefined && { root: join(path, root) }),
    branch: `ralf/${name}`,
    ...(spec.ref !== undefined && { ref: spec.ref }),
    ...(from !== undefined && { from }),
    ...(spec.repository !== undefined && { url: `${repositories()}${spec.repository}.git` }),
    autonomous,
  }
}

/** A child begins in the state of its parent's tree, if that is of the same repository. */
function parentTree(
  claims: TreeClaims,
  { lineage }: Spec,
  { common }: Repository,
): string | undefined {
  const parent = lineage.at(-1)
  const tree = parent === undefined ? undefined : claims.treeOf(parent)
  return tree?.common === common && statSync(tree.path, { throwIfNoEntry: false })
    ? tree.path
    : undefined
}

/**
 * @throws Fault when git refuses the repository, or a checkout would run filters that nobody
 * trusts.
 */
async function checkCheckout(
  { trusted }: Pick<Context, "trusted">,
  { ref, from, common }: TreeFile,
): Promise<void> {
  if (common === undefined) return
  const armed = await armGit(common, trusted())
  const git = from === undefined ? armed.git : await gitIn(from)
  const commit = await commitOf(
    git,
    ref === undefined ? ["HEAD"] : [ref, `refs/remotes/origin/${ref}`],
  )
  if (commit !== undefined) await checkFilters(armed, common, commit)
}
