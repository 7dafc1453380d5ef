import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { Fault } from "../core/faults.ts"
import { shellWord } from "../core/view.ts"
import { armGit, commitOf, type Git, gitFault, gitIn, must } from "../host/git.ts"
import { checkFilters } from "../host/git-filters.ts"
import { entriesOf, forgetEntry, isTreeOf } from "../host/repository.ts"
import { entryLoss } from "../host/tree-loss.ts"
import { readLasting, writeLasting } from "../run/lasting-files.ts"
import type { TreeFile } from "../run/tree-file.ts"
import { fetchClone } from "./clone.ts"

/** A work tree of its own, made from a branch of the project's repository. */

/** A checkout of a large repository on a slow disk. */
const checkoutMs = 300_000
const branchesMax = 1000

/** Makes a tree of its own where it is not there. @throws Fault. */
export async function makeTree(
  tree: TreeFile,
  instance: string,
  busy: (summary: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const { path, repository, common, url } = tree
  if (repository === undefined || common === undefined || tree.branch === undefined)
    throw new Error(`the tree ${path} of ${instance} has no repository`)
  const begun = readLasting(instance, "begun")
  const filled = existsSync(path) && readdirSync(path).length > 0
  if (filled && begun?.made && existsSync(repository) && isTreeOf(path, common))
    return autonomous(tree)

  if (url !== undefined && (!begun || !existsSync(repository))) {
    busy(`clone or fetch ${url}`)
    await fetchClone(repository, url, join(dirname(dirname(instance)), "locks"), signal)
  }
  if (!existsSync(repository))
    throw new Fault(
      "NotFound",
      `The git repository ${repository} does not exist any more.`,
      "Restore it, then run resume_instances.",
    )
  const armed = await armGit(repository, tree.trustedFilters ?? {}, signal)
  const { git } = armed
  if (filled) {
    // Only what was cut off while it was made, before anything ran there, is taken away.
    if (begun?.made !== false || !isTreeOf(path, common))
      throw new Fault(
        "Conflict",
        `${path} is not a work tree of ${repository} any more.`,
        "Save its contents, move it away, then run resume_instances: the tree is made again from its branch.",
      )
    const next = "Move it away, then run resume_instances."
    must(
      await git(["worktree", "remove", "--force", path]),
      `Removing the half-made work tree ${path}`,
      next,
    )
  }
  busy(`make the work tree ${path}`)
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  await forgetDeleted(path, common)
  const add = async (commit: string, ...args: readonly string[]): Promise<void> => {
    await checkFilters(armed, common, commit)
    const next = "Fix what git reports, then run resume_instances."
    must(
      await git(["worktree", "add", "--quiet", ...args], { ms: checkoutMs }),
      `Making the work tree ${path}`,
      next,
    )
  }
  const tip =
    begun?.branch === undefined ? undefined : await commitOf(git, [`refs/heads/${begun.branch}`])
  if (begun?.branch !== undefined && tip !== undefined) {
    await add(tip, "--", path, begun.branch)
    writeLasting(instance, "begun", { ...begun, made: true })
  } else {
    const base = await beginning(tree, git, signal)
    const branch = await freeBranch(git, tree.branch)
    // Before it is made: a successor knows what was begun.
    writeLasting(instance, "begun", { base, branch, made: false })
    await add(base, "-b", branch, "--no-track", "--", path, base)
    writeLasting(instance, "begun", { base, branch, made: true })
  }
  autonomous(tree)
}

/**
 * What the repository still keeps about this tree, which somebody deleted, makes room for a new
 * one: its entry alone, for the trees of others may be on a disk that is not there now. @throws
 * Conflict when commits would be lost with it.
 */
async function forgetDeleted(path: string, common: string): Promise<void> {
  for (const entry of entriesOf(path, common)) {
    const why = await entryLoss(entry, common)
    if (why.length > 0)
      throw new Fault(
        "Conflict",
        `Somebody deleted the work tree ${path}, but ${why.join("; ")}: git keeps it in ${entry.directory}.`,
        `Save it (git --git-dir ${shellWord(entry.directory)} branch rescued HEAD), delete that directory, then run resume_instances.`,
      )
    forgetEntry(entry)
  }
}

/** The commit at which a tree of its own begins. */
async function beginning(
  { ref, from, url, repository }: TreeFile,
  git: Git,
  signal: AbortSignal,
): Promise<string> {
  if (ref !== undefined) {
    const names = [ref, `refs/remotes/origin/${ref}`]
    const found = await commitOf(git, url === undefined ? names : names.toReversed())
    if (found !== undefined) return found
    throw new Fault(
      "NotFound",
      `${url ?? repository} has no branch, tag or commit ${ref}.`,
      "Spawn the instance again with another ref.",
    )
  }
  const found =
    (from !== undefined && existsSync(from)
      ? await commitOf(await gitIn(from, {}, signal), ["HEAD"])
      : undefined) ??
    (await commitOf(
      git,
      ["refs/remotes/origin/HEAD", "refs/remotes/origin/main", "refs/remotes/origin/master"].slice(
        url ? 0 : 3,
      ),
    )) ??
    (await commitOf(git, ["HEAD"]))
  if (found !== undefined) return found
  throw new Fault(
    "Invalid",
    `${url ?? repository} has no commit yet, and a work tree starts from a commit.`,
    "Commit something there, then run resume_instances.",
  )
}

/** A name used again inherits nothing: a branch that is there belongs to somebody before. */
async function freeBranch(git: Git, wanted: string): Promise<string> {
  for (let number = 1; number <= branchesMax; number++) {
    const branch = number === 1 ? wanted : `${wanted}-${number}`
    const ran = await git(["show-ref", "--verify", "--quiet", `refs/heads/${branch}`])
    if (ran.code === 1) return branch
    if (ran.code !== 0)
      throw gitFault(
        ran,
        `Looking for the branch ${branch}`,
        "Fix what git reports, then run resume_instances.",
      )
  }
  throw new Fault(
    "Conflict",
    `All branches from ${wanted} to ${wanted}-${branchesMax} exist already.`,
    "Delete those that nobody needs.",
  )
}

/**
 * The loop script needs its directory. Where the repository has none, it is nothing that is to be
 * committed.
 */
function autonomous({ autonomous: needed, project }: TreeFile): void {
  const directory = join(project, ".autonomous")
  if (!needed || existsSync(directory)) return
  mkdirSync(directory)
  writeFileSync(join(directory, ".gitignore"), "*\n")
}
