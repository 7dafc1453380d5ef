import { mkdirSync, realpathSync, rmSync, statSync } from "node:fs"
import { join, relative, resolve } from "node:path"
import { Fault } from "../../core/faults.ts"
import type { Instance, Spec, Uid } from "../../core/instance.ts"
import type { Foreseen } from "../../core/ports.ts"
import type { TrustedFilters } from "../../core/workspace.ts"
import { ownTree } from "../../core/workspace.ts"
import { isDirectory } from "../../host/find-code-root.ts"
import { armGit, commitOf, gitIn, must } from "../../host/git.ts"
import { checkFilters } from "../../host/git-filters.ts"
import { findRepository, type Repository } from "../../host/repository.ts"
import { readLasting, writeLasting } from "../../run/lasting-files.ts"
import { type RunFile, runDirectory } from "../../run/run-directory.ts"
import { instanceDirectory, instancesIn, runsOf } from "../../run/runs.ts"
import { type TreeFile, treePath } from "../../run/tree-file.ts"
import type { CodeRoots } from "./code-roots.ts"
import type { ReleasedTrees } from "./kept-trees.ts"

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

/** Where a project is: its directory, and the git repository that tracks it. */
interface Found {
  readonly directory: string
  /** What its loop works on: the project, or the whole code root. */
  readonly scope: string
  readonly repository?: Repository | undefined
  /** The project in the repository; "" where it is the whole. */
  readonly inside: string
  /** The code root in the repository, where that holds it with the loop script. */
  readonly root?: string | undefined
  /** Its loop script needs a directory `.autonomous` there. */
  readonly autonomous: boolean
}

export function createTrees({
  stateDirectory,
  codeRoots,
  repositories,
  trusted,
  kept: keptTrees,
}: TreesOptions): Trees {
  const claims = new Map<Uid, { readonly tree: TreeFile; readonly name: string }>()
  for (const uid of instancesIn(stateDirectory) as Uid[]) {
    // names of directories that were made from uids
    const newest = runsOf(stateDirectory, uid).at(-1)
    const run = newest === undefined ? undefined : runDirectory(newest).get("run")
    const tree =
      readLasting(instanceDirectory(stateDirectory, uid), "tree") ?? (run && formerTree(run))
    if (tree) claims.set(uid, { tree, name: run?.name ?? uid })
  }

  /** By its loop's own word: it does not work there any more, unless somebody starts it afresh. */
  const ended = (uid: Uid): boolean => {
    const run = runsOf(stateDirectory, uid).at(-1)
    return run !== undefined && runDirectory(run).get("exit")?.exit.outcome !== undefined
  }
  /** Those that work in the same repository; where there is no git, in the same directory. */
  const working = (where: string, except: Uid | undefined): { name: string; tree: TreeFile }[] =>
    [...claims].flatMap(([uid, { tree, name }]) =>
      uid !== except && (tree.common ?? tree.path) === where && !ended(uid) ? [{ name, tree }] : [],
    )

  const clone = (repository: string): string => join(stateDirectory, "clones", `${repository}.git`)

  async function find(spec: Spec): Promise<Found> {
    const { root, directory, program, autonomous, whole } = codeRoots.layoutOf(spec)
    if (spec.repository !== undefined) {
      const path = clone(spec.repository)
      return {
        directory: path,
        scope: path,
        repository: { top: path, common: path },
        inside: "",
        autonomous,
      }
    }
    if (root === undefined || directory === undefined)
      throw new Error(`no directory was found for the project ${spec.project}`)
    const scope = whole ? root : directory
    const repository = findRepository(scope)
    if (!repository) return { directory, scope, inside: "", autonomous }
    const within = (path: string): string | undefined => inTop(repository.top, realpathSync(path))
    const inside = within(directory)
    if (inside === "" && spec.ref === undefined)
      return { directory, scope, repository, inside, autonomous }
    const git = await gitIn(repository.top)
    const commit = await commitOf(
      git,
      spec.ref === undefined ? ["HEAD"] : [spec.ref, `refs/remotes/origin/${spec.ref}`],
    )
    if (commit === undefined && spec.ref !== undefined)
      throw new Fault(
        "NotFound",
        `There is no branch, tag or commit ${spec.ref} in the project's repository.`,
        "Correct ref, or fetch it there.",
      )
    if (inside === "") return { directory, scope, repository, inside, autonomous }
    // The directory may merely lie in somebody's repository: a tree of its own would lack what is
    // not tracked. Not the index is asked: a new tree is made from a commit.
    const tracked = async (path: string | undefined): Promise<boolean> => {
      if (path === "") return true
      if (path === undefined || commit === undefined) return false
      return (
        must(
          await git(["ls-tree", "--name-only", "-z", commit, "--", path]),
          `Looking ${path} up in ${repository.top}`,
        ) !== ""
      )
    }
    if (inside === undefined || !(await tracked(inside)))
      return { directory, scope, inside: "", autonomous }
    const rooted = program === undefined || (await tracked(within(program)))
    // A loop that works where it stands cannot work in a tree that lacks it.
    if (whole && !rooted) return { directory, scope, inside: "", autonomous }
    return {
      directory,
      scope,
      repository,
      inside,
      root: rooted ? within(root) : undefined,
      autonomous,
    }
  }

  /**
   * The repository that a spec means, by the file system alone; undefined where it cannot be said.
   */
  const guess = (spec: Spec): string | undefined => {
    if (spec.repository !== undefined) return clone(spec.repository)
    try {
      const { root, directory, whole } = codeRoots.layoutOf(spec)
      const scope = whole ? root : directory
      return scope === undefined ? undefined : (findRepository(scope)?.common ?? scope)
    } catch {
      return undefined // its project is gone: it will not be started
    }
  }

  /**
   * Its parent's tree, if that is of the same repository: what is spawned begins where its parent
   * is.
   */
  const parentTree = ({ lineage }: Spec, { common }: Repository): string | undefined => {
    const parent = claims.get(lineage.at(-1) ?? ("" as Uid))?.tree // no uid is empty
    return parent?.common === common && statSync(parent.path, { throwIfNoEntry: false })
      ? parent.path
      : undefined
  }

  function decide(
    { name, uid, spec }: { name: string; uid: string; spec: Spec },
    found: Found,
    taken: boolean,
  ): TreeFile {
    const { directory, scope, repository, inside, root, autonomous } = found
    if (!ownTree(spec, { git: repository !== undefined, taken }) || !repository)
      return {
        ...{ own: false, path: scope, project: directory, autonomous },
        ...(repository && { repository: repository.top, common: repository.common }),
      }
    const path = treePath(stateDirectory, name, uid)
    const from =
      parentTree(spec, repository) ?? (spec.repository === undefined ? repository.top : undefined)
    return {
      ...{
        own: true,
        path,
        project: join(path, inside),
        repository: repository.top,
        common: repository.common,
      },
      ...(root !== undefined && { root: join(path, root) }),
      ...{ branch: `ralf/${name}`, autonomous },
      ...(spec.ref !== undefined && { ref: spec.ref }),
      ...(from !== undefined && { from }),
      ...(spec.repository !== undefined && { url: `${repositories()}${spec.repository}.git` }),
    }
  }

  /** A tree as its run is told of it: with what the policy says now. */
  const told = (tree: TreeFile): TreeFile => ({ ...tree, trustedFilters: trusted() })
  /**
   * @throws Fault when git refuses the repository, or a checkout would run filters that nobody
   * trusts.
   */
  async function checkCheckout({ ref, from, common }: TreeFile): Promise<void> {
    if (common === undefined) return
    const armed = await armGit(common, trusted())
    const git = from === undefined ? armed.git : await gitIn(from)
    const commit = await commitOf(
      git,
      ref === undefined ? ["HEAD"] : [ref, `refs/remotes/origin/${ref}`],
    )
    if (commit !== undefined) await checkFilters(armed, common, commit)
  }

  return {
    async settle({ name, uid, spec }) {
      const kept = claims.get(uid)?.tree
      const finished = ended(uid)
      const found = kept && !finished ? undefined : await find(spec)
      // No await from here on: two starts at once cannot both find the tree free.
      const before = claims.get(uid)?.tree
      const others = (tree: TreeFile): boolean => working(tree.common ?? tree.path, uid).length > 0
      // Who had finished gave the shared tree up; started afresh, it may find somebody else in it.
      const lost = before && finished && !before.own && spec.workspace === "auto" && others(before)
      if (before && !lost) return told(before)
      if (!found) throw new Error(`nothing was found out about the tree of ${name}`)
      const tree = decide(
        { name, uid, spec },
        found,
        working(found.repository?.common ?? found.scope, uid).length > 0,
      )
      const instance = instanceDirectory(stateDirectory, uid)
      mkdirSync(instance, { recursive: true, mode: 0o700 })
      if (lost) rmSync(join(instance, "begun.json"), { force: true })
      writeLasting(instance, "tree", tree)
      claims.set(uid, { tree, name })
      return told(tree)
    },
    async foresee(spec, others) {
      const found = await find(spec)
      const looked = new Map<string, string | undefined>()
      const whereOf = (one: Spec): string | undefined => {
        const key = JSON.stringify([one.codeRoot, one.project, one.repository])
        if (!looked.has(key)) looked.set(key, guess(one))
        return looked.get(key)
      }
      const here = working(found.repository?.common ?? found.scope, undefined)
      // Those that were asked for before and have no tree yet will have theirs first.
      const coming = others.filter(
        (one) => !claims.has(one.uid) && whereOf(one.spec) === whereOf(spec),
      )
      const treeOf = (name: string, uid: string): TreeFile =>
        decide({ name, uid, spec }, found, here.length + coming.length > 0)
      const tree = treeOf("", "")
      const { own, path } = tree
      const { loop } = codeRoots.launch(spec, tree)
      if (own && tree.url === undefined) await checkCheckout(tree)
      return {
        loop,
        sharedWith: own
          ? []
          : here.filter(({ tree }) => tree.path === path).map(({ name }) => name),
        at(name, uid) {
          const tree = treeOf(name, uid ?? "")
          return {
            ...((!own || uid !== undefined) && { path: tree.path }),
            ...(tree.branch !== undefined && { branch: tree.branch }),
          }
        },
      }
    },
    async clean({ name, uid }) {
      const tree = claims.get(uid)?.tree
      if (!tree) return keptTrees.releasedBefore({ name, uid })
      const begun = readLasting(instanceDirectory(stateDirectory, uid), "begun")
      const words = tree.own ? await keptTrees.release({ name, uid, tree, begun }) : undefined
      claims.delete(uid)
      return words
    },
  }
}

/** What a version before 0.2 started works in the person's tree, and that is then taken. */
function formerTree({ command, directory }: RunFile): TreeFile | undefined {
  const project = resolve(directory, command.at(-1) ?? "")
  if (!isDirectory(project)) return undefined
  const repository = findRepository(project)
  const git = repository && { repository: repository.top, common: repository.common }
  return { own: false, path: project, project, autonomous: false, ...git }
}

/** A path in a repository's top, undefined for one that is elsewhere. */
function inTop(top: string, path: string): string | undefined {
  const inside = relative(top, path)
  return inside.startsWith("..") || inside.startsWith("/") ? undefined : inside
}
