import {
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmdirSync,
  rmSync,
  statSync,
} from "node:fs"
import { basename, dirname, join, relative, resolve } from "node:path"
import { Fault } from "../core/faults.ts"

/** Repositories and their work trees, by the file system alone: gitrepository-layout(5). */

export interface Repository {
  /** The work tree that it was found by. */
  readonly top: string
  /** The directory that all its work trees have in common: the same for the same repository. */
  readonly common: string
}

/** The repository that a directory is in. @throws Unavailable where one is that cannot be read. */
export function findRepository(directory: string): Repository | undefined {
  for (let at = realpathSync(directory); ; at = dirname(at)) {
    const common = gitDirectoryOf(at)?.common
    if (common !== undefined) return { top: at, common }
    if (at === dirname(at)) return undefined
  }
}

/**
 * What the `.git` of a work tree leads to: its own git directory, and the one that all trees of its
 * repository have in common.
 */
export function gitDirectoryOf(
  top: string,
): { readonly own: string; readonly common: string } | undefined {
  const dotGit = join(top, ".git")
  try {
    const stat = statSync(dotGit, { throwIfNoEntry: false })
    if (stat?.isDirectory()) return whole(dotGit)
    if (!stat?.isFile() || stat.size > 8192) return undefined
    // A linked work tree or a submodule.
    const [, named] = /^gitdir: (.+?)\r?\n*$/.exec(readFileSync(dotGit, "utf8")) ?? []
    return named === undefined ? undefined : whole(resolve(top, named))
  } catch (error) {
    // Whoever cannot read it must not take it for none.
    throw new Fault(
      "Unavailable",
      "The repository of a work tree cannot be read.",
      "Make it readable for the user that runs `blackbox5 serve`.",
      error,
      `${dotGit}: ${error instanceof Error ? error.message : String(error)}.`,
    )
  }
}
function whole(own: string): { own: string; common: string } | undefined {
  if (statSync(own, { throwIfNoEntry: false }) === undefined) return undefined
  const commonFile = join(own, "commondir")
  const common = existsSync(commonFile)
    ? resolve(own, readFileSync(commonFile, "utf8").trim())
    : own
  if (!readdirSync(common).includes("HEAD")) return undefined
  return { own: realpathSync(own), common: realpathSync(common) }
}

/** True for a work tree of that repository, whose top it is. */
export function isTreeOf(path: string, common: string): boolean {
  const found = gitDirectoryOf(path)
  return found !== undefined && found.common === realpathSync(common)
}

/** What a repository keeps about one of its linked work trees: `<common>/worktrees/<id>`. */
export interface TreeEntry {
  readonly directory: string
  /** The tree, which need not be there. */
  readonly tree: string
}
export function treeEntries(common: string): readonly TreeEntry[] {
  const all = join(common, "worktrees")
  return existsSync(all) ? readdirSync(all).flatMap((id) => entryIn(join(all, id)) ?? []) : []
}
function entryIn(directory: string): TreeEntry | undefined {
  const file = join(directory, "gitdir")
  return existsSync(file)
    ? { directory, tree: dirname(resolve(directory, readFileSync(file, "utf8").trim())) }
    : undefined
}
/**
 * What the repository keeps about a tree that git made at this path. Its id begins with the path's
 * last name: git-worktree(1).
 */
export function entriesOf(path: string, common: string): readonly TreeEntry[] {
  const all = join(common, "worktrees")
  if (!existsSync(all)) return []
  return readdirSync(all)
    .filter((id) => id.startsWith(basename(path)))
    .flatMap((id) => entryIn(join(all, id)) ?? [])
    .filter(({ tree }) => canonical(tree) === canonical(path))
}
/** The entry that a tree and its repository name each other by. */
export function linkedAt(path: string, common: string): TreeEntry | undefined {
  const found = gitDirectoryOf(path)
  if (found === undefined || found.common !== realpathSync(common) || found.own === found.common)
    return undefined
  const entry = entryIn(found.own)
  return entry && canonical(entry.tree) === canonical(path) ? entry : undefined
}

/** Somebody wants it kept: git-worktree(1), lock. */
export const isLocked = ({ directory }: TreeEntry): boolean => existsSync(join(directory, "locked"))

/**
 * Forgets one tree that is gone: what `git worktree prune` does to all trees that it does not see,
 * those on an unplugged disk, too.
 */
export function forgetEntry({ directory }: TreeEntry): void {
  rmSync(directory, { recursive: true, force: true })
  try {
    rmdirSync(dirname(directory))
  } catch {
    // Others are in it.
  }
}

/** A path by which two names of one place are equal, also when nothing is there. */
function canonical(path: string): string {
  const parent = dirname(path)
  return lstatSync(parent, { throwIfNoEntry: false }) === undefined
    ? path
    : join(realpathSync(parent), basename(path))
}
/** A path is in a directory, or is it. */
export function isWithin(path: string, directory: string): boolean {
  const inside = relative(directory, path)
  return inside === "" || !(inside === ".." || inside.startsWith("../") || inside.startsWith("/"))
}
