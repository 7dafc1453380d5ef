import { realpathSync } from "node:fs"
import { relative } from "node:path"
import { Fault } from "../../core/faults.ts"
import type { Spec } from "../../core/instance.ts"
import { commitOf, gitIn, must } from "../../host/git.ts"
import { findRepository, type Repository } from "../../host/repository.ts"
import type { CodeRoots } from "./code-roots.ts"

/** Where a project is: its directory, and the git repository that tracks it. */
export interface ProjectLocation {
  readonly directory: string
  /** What its loop works on: the project, or the whole code root. */
  readonly scope: string
  readonly repository?: Repository | undefined
  /** The project in the repository; "" where it is the whole. */
  readonly inside: string
  /** The code root in the repository, where that holds it with the loop script. */
  readonly root?: string | undefined
  /** Its loop script needs a directory `.autonomous` in it. */
  readonly autonomous: boolean
}

export interface LocateOptions {
  readonly codeRoots: Pick<CodeRoots, "layoutOf">
  /** The bare clone of a repository, which need not exist yet. */
  clonePath(repository: string): string
}

/** @throws Fault when the project is gone, its ref is unknown, or git refuses the repository. */
export async function locateProject(
  { codeRoots, clonePath }: LocateOptions,
  spec: Spec,
): Promise<ProjectLocation> {
  const { root, directory, program, autonomous, whole } = codeRoots.layoutOf(spec)
  if (spec.repository !== undefined) {
    const path = clonePath(spec.repository)
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
 * The repository, or the directory without git, that a spec means, by a look at the file system
 * alone; undefined where it cannot be told.
 */
export function guessLocation(
  { codeRoots, clonePath }: LocateOptions,
  spec: Spec,
): string | undefined {
  if (spec.repository !== undefined) return clonePath(spec.repository)
  try {
    const { root, directory, whole } = codeRoots.layoutOf(spec)
    const scope = whole ? root : directory
    return scope === undefined ? undefined : (findRepository(scope)?.common ?? scope)
  } catch {
    return undefined // its project is gone: it will not be started
  }
}

/** The path relative to a repository's top; undefined when it is elsewhere. */
function inTop(top: string, path: string): string | undefined {
  const inside = relative(top, path)
  return inside.startsWith("..") || inside.startsWith("/") ? undefined : inside
}
