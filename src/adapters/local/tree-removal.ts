import { rmSync, statSync } from "node:fs"
import { Fault } from "../../core/faults.ts"
import { counted, shellWord } from "../../core/view.ts"
import type { TrustedFilters } from "../../core/workspace.ts"
import { commitOf, type Git, gitIn, gitWords, must } from "../../host/git.ts"
import { looseCommits, reflogOf } from "../../host/loose-commits.ts"
import { entriesOf, forgetEntry, isLocked, linkedAt } from "../../host/repository.ts"
import { entryLoss, lossOf } from "../../host/tree-loss.ts"
import type { BegunFile, TreeFile } from "../../run/tree-file.ts"

/** What a removal left, and why. */
export interface KeptWork {
  /** The tree is still there, or what its repository keeps about it. */
  readonly tree: boolean
  readonly branch: string | undefined
  /** A clause about "it", the tree; or the branch and its commits. */
  readonly why: string
}
export interface RemovalOptions {
  readonly trusted: TrustedFilters
  /**
   * A person's word that what only the tree holds may be lost, or, where that is gone, what only
   * its branch holds.
   */
  readonly discard?: "tree" | "branch" | undefined
  /** A branch whose commits are on another one goes, too: what it was for is done. */
  readonly merged?: boolean
}

/**
 * Removes a tree once it is proved to hold nothing that exists nowhere else, and then its branch.
 * Returns what was kept, if anything. Never throws.
 */
export async function removeTree(
  tree: TreeFile,
  begun: BegunFile | undefined,
  options: RemovalOptions,
): Promise<KeptWork | undefined> {
  const left = (why: string): KeptWork => ({ tree: true, branch: begun?.branch, why })
  try {
    return await removeWhole(tree, begun, options, left)
  } catch (error) {
    return left(error instanceof Fault ? error.whole : String(error))
  }
}

async function removeWhole(
  tree: TreeFile,
  begun: BegunFile | undefined,
  options: RemovalOptions,
  left: (why: string) => KeptWork,
): Promise<KeptWork | undefined> {
  const { path, repository, common } = tree
  // The work never began, as for most of a large fleet that is removed: git is not needed.
  if (begun === undefined && !isThere(path)) return undefined
  if (repository === undefined || common === undefined || !isThere(common)) {
    if (!isThere(path)) return undefined
    if (options.discard !== "tree") return left("its repository is gone")
    rmSync(path, { recursive: true, force: true })
    return undefined
  }
  const git = await gitIn(common, options.trusted)
  const why = isThere(path)
    ? await removeDirectory(git, tree, begun, options)
    : await forget(tree, common, options)
  if (why !== undefined) return left(why)
  const branch = begun?.branch
  return branch === undefined
    ? undefined
    : await removeBranch(git, common, { branch, base: begun?.base }, options)
}
const isThere = (path: string): boolean => statSync(path, { throwIfNoEntry: false }) !== undefined

/** Returns why it was kept. */
async function removeDirectory(
  git: Git,
  { path, common = "" }: TreeFile,
  begun: BegunFile | undefined,
  { trusted, discard }: RemovalOptions,
): Promise<string | undefined> {
  const own = linkedAt(path, common)
  // Nothing has run yet in a tree that was not finished.
  const { why, entries, forbidden } =
    begun?.made === false
      ? { why: [], entries: [], forbidden: undefined }
      : await lossOf(path, common, trusted)
  if (why.length > 0 && discard !== "tree") return why.join("; ")
  if (forbidden !== undefined) return forbidden
  if (own && isLocked(own)) return `it is locked; git worktree unlock ${shellWord(path)} ends that`
  if (!own) rmSync(path, { recursive: true, force: true })
  else {
    // Forced only past what is no work, or what a person gave up.
    const removed = await git(["worktree", "remove", "--force", "--", path], { ms: 120_000 })
    if (removed.code !== 0) return `git could not remove it: ${gitWords(removed)}`
  }
  for (const entry of entries) if (!isThere(entry.tree)) forgetEntry(entry)
  return undefined
}

/** Forgets a tree of ours that somebody deleted; no other. Why it must not be forgotten. */
async function forget(
  { path }: TreeFile,
  common: string,
  { discard }: RemovalOptions,
): Promise<string | undefined> {
  for (const entry of entriesOf(path, common)) {
    const why = discard === "tree" ? [] : await entryLoss(entry, common)
    if (why.length > 0) return `somebody deleted it, but ${why.join("; ")}: see ${entry.directory}`
    forgetEntry(entry)
  }
  return undefined
}

/** Deletes a branch without commits of its own, or whose commits are elsewhere, too. */
async function removeBranch(
  git: Git,
  common: string,
  { branch, base }: { readonly branch: string; readonly base: string | undefined },
  { discard, merged = false }: RemovalOptions,
): Promise<KeptWork | undefined> {
  const tip = await commitOf(git, [`refs/heads/${branch}`])
  if (tip === undefined) return undefined
  const left = (why: string): KeptWork => ({ tree: false, branch, why })
  const alone = await looseCommits(git, common, [tip], { without: branch })
  const made =
    base === undefined
      ? alone
      : Number(
          must(
            await git(["rev-list", "--count", `${base}..${tip}`]),
            `Counting the commits of ${branch}`,
          ),
        )
  const words = counted(made, "commit")
  const force = discard === "branch"
  if (!force && (alone > 0 || (made > 0 && !merged))) return left(`with ${words}`)
  // Merged as git branch -d means it: the tip counts. Otherwise what its reflog alone keeps is not
  // lost either.
  if (!force && !merged) {
    const dropped = await looseCommits(git, common, reflogOf(common, branch), {
      without: branch,
      reflogsKeep: true,
    })
    if (dropped > 0) return left(`without commits, but ${counted(dropped, "commit")} in its reflog`)
  }
  const deleted = await git(["branch", "-D", "--end-of-options", branch])
  return deleted.code === 0 ? undefined : left(`which git could not remove: ${gitWords(deleted)}`)
}
