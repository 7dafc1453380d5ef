import { existsSync, readFileSync, realpathSync } from "node:fs"
import { dirname, join, relative, resolve } from "node:path"
import { Fault } from "../core/faults.ts"
import { counted } from "../core/view.ts"
import type { TrustedFilters } from "../core/workspace.ts"
import { commitOf, gitIn, must } from "./git.ts"
import { filesBelow, looseCommits, oidsIn } from "./loose-commits.ts"
import {
  gitDirectoryOf,
  isLocked,
  isWithin,
  linkedAt,
  type TreeEntry,
  treeEntries,
} from "./repository.ts"
import { scanTree } from "./tree-scan.ts"
import { changesLoss, plain } from "./uncommitted-work.ts"

/**
 * What would be lost with a work tree: everything that is reachable from nowhere else. Files that
 * the repository ignores do not count, as for `git worktree remove`; repositories among them do.
 */
export interface Loss {
  /** Clauses about "it", the tree; empty when nothing would be lost. */
  readonly why: readonly string[]
  /** What repositories keep about the work trees that lie in it, and about itself. */
  readonly entries: readonly TreeEntry[]
  /** Why it must not be deleted, even if a person asks for it. */
  readonly forbidden: string | undefined
}

/** What git keeps in a tree's own directory while an operation is under way. */
const unfinished: readonly (readonly [string, string])[] = [
  ...(["rebase-merge", "rebase-apply"] as const).map(
    (name) => [name, "a rebase in it is not finished"] as const,
  ),
  ["MERGE_HEAD", "a merge in it is not finished"],
  ["MERGE_AUTOSTASH", "a merge in it is not finished"],
  ["sequencer", "a cherry-pick or revert in it is not finished"],
  ["CHERRY_PICK_HEAD", "a cherry-pick in it is not finished"],
  ["REVERT_HEAD", "a revert in it is not finished"],
  ["BISECT_LOG", "a bisect in it is not finished"],
]
const unfinishedIn = (gitDirectory: string): readonly string[] =>
  unfinished.flatMap(([name, words]) => (existsSync(join(gitDirectory, name)) ? [words] : []))
/**
 * What would be lost with a tree of its own that is there. Never throws: what cannot be found out
 * is a reason to keep it.
 */
export async function lossOf(at: string, of: string, trusted: TrustedFilters = {}): Promise<Loss> {
  const [path, common] = [realpathSync(at), realpathSync(of)]
  const why: string[] = []
  const entries: TreeEntry[] = []
  let forbidden: string | undefined
  const attempt = async (what: string, look: () => Promise<readonly string[]>): Promise<void> => {
    try {
      why.push(...(await look()))
    } catch (error) {
      why.push(`cannot inspect ${what}: ${error instanceof Fault ? error.whole : String(error)}`)
    }
  }
  await attempt("it", async () => {
    const own = linkedAt(path, common)
    const inTree = await scanTree(path)
    const [mount] = inTree.mounts
    if (mount !== undefined) forbidden = `another file system is mounted in it (${plain(mount)})`
    if (forbidden !== undefined) why.push(forbidden)
    if (!own) return ["it is no longer a work tree of its repository"]
    entries.push(own)
    const found = await treeLoss(path, own, common, trusted)
    const inEntry = await scanTree(own.directory)
    const goes = (one: string): boolean => isWithin(one, path) || isWithin(one, own.directory)
    found.push(...inTree.obstacles, ...inEntry.obstacles, ...borrowed(common, path))
    const shown = (one: string): string => plain(relative(path, one))
    for (const directory of [...inTree.gitDirectories, ...inEntry.gitDirectories])
      await attempt(`the repository ${shown(directory)}`, () =>
        repositoryLoss(directory, path, goes, trusted),
      )
    for (const directory of inTree.linked)
      await attempt(`the work tree ${shown(directory)}`, async () => {
        const linked = gitDirectoryOf(directory)
        if (!linked) return [`the repository of ${shown(directory)} is gone`]
        const entry = goes(linked.common) ? undefined : linkedAt(directory, linked.common)
        if (entry) entries.push(entry)
        const lost = entry
          ? await treeLoss(directory, entry, linked.common, trusted)
          : await changesLoss(directory, linked.own, trusted)
        return lost.map((one) => `in ${shown(directory)} ${one}`)
      })
    return found
  })
  return { why: [...new Set(why)], entries, forbidden }
}

/**
 * What would be lost with what a repository keeps about a tree that is not there any more. @throws
 * Unavailable with git's own words.
 */
export async function entryLoss(entry: TreeEntry, common: string): Promise<readonly string[]> {
  const why = await ownLoss(entry, common)
  const { gitDirectories } = await scanTree(entry.directory)
  if (gitDirectories.length > 0) why.push("it had submodules, whose repositories are still there")
  const git = await gitIn(common)
  const of = ["--git-dir", entry.directory]
  if (existsSync(join(entry.directory, "index"))) {
    const nothing = must(
      await git([...of, "hash-object", "-t", "tree", "/dev/null"]),
      "git hash-object",
    )
    const head = (await commitOf((args) => git([...of, ...args]), ["HEAD"])) ?? nothing
    const staged = await git([
      ...of,
      "diff-index",
      "--cached",
      "--quiet",
      "--ignore-submodules=dirty",
      head,
      "--",
    ])
    if (staged.code === 1) why.push("it held staged changes that are not committed")
    else must(staged, "git diff-index")
  }
  return why
}

/**
 * What would be lost with a linked work tree and what its repository, which stays, keeps about it.
 */
async function treeLoss(
  path: string,
  entry: TreeEntry,
  common: string,
  trusted: TrustedFilters,
): Promise<string[]> {
  return [...(await changesLoss(path, entry.directory, trusted)), ...(await ownLoss(entry, common))]
}

/**
 * What a repository keeps for one of its trees alone: HEAD, its reflog, refs of its own, an
 * operation under way.
 */
async function ownLoss(entry: TreeEntry, common: string): Promise<string[]> {
  const why = isLocked(entry) ? ["it is locked"] : []
  why.push(...unfinishedIn(entry.directory))
  if (existsSync(join(common, "reftable")))
    return [...why, "its repository stores reflogs as reftables, which Blackbox5 does not read"]
  const git = await gitIn(common)
  const of = ["--git-dir", entry.directory]
  const refs = must(
    await git([
      ...of,
      "for-each-ref",
      "--format=%(objectname)",
      "refs/worktree",
      "refs/bisect",
      "refs/rewritten",
    ]),
    "Listing the tree's own refs",
  )
  const [head, before] = ["HEAD", "ORIG_HEAD"].map((name) => join(entry.directory, name))
  const tips = [...oidsIn(head), ...refs.split("\n").filter(Boolean)]
  const former = [...oidsIn(before), ...filesBelow(join(entry.directory, "logs")).flatMap(oidsIn)]
  const kept = { reflogsKeep: true }
  const count =
    (await looseCommits(git, common, tips)) ||
    (await looseCommits(git, common, [...tips, ...former], kept))
  if (count > 0) why.push(`it has ${counted(count, "commit")} on no branch`)
  return why
}

/** What would be lost with a repository that lies in the tree: all but what its remotes have. */
async function repositoryLoss(
  directory: string,
  path: string,
  goes: (one: string) => boolean,
  trusted: TrustedFilters,
): Promise<string[]> {
  const inTree = isWithin(directory, path)
  const name = plain(relative(path, directory.endsWith("/.git") ? dirname(directory) : directory))
  if (inTree && !directory.endsWith("/.git")) {
    // A repository that is itself made of files of the outer one, as tests have them.
    const tracked = await (await gitIn(path))(["ls-files", "-z", "--", join(directory, "HEAD")])
    if (must(tracked, `Listing ${name}`) !== "") return []
  }
  const git = await gitIn(directory)
  const of = ["--git-dir", directory]
  const commits = await git(
    [...of, "rev-list", "--count", "--all", "--reflog", "--not", "--remotes"],
    { ms: 60_000 },
  )
  const count = Number(must(commits, `Counting the commits of ${name}`))
  const where = inTree ? `the repository ${name} in it` : "a submodule of it"
  const why = count === 0 ? [] : [`${where} has ${counted(count, "commit")} that no remote has`]
  // Tags that came with a clone are packed.
  if (filesBelow(join(directory, "refs/tags")).length > 0) why.push(`${where} has tags of its own`)
  const outside = treeEntries(directory).filter(({ tree }) => !goes(tree))
  if (outside.length > 0) why.push(`${where} has a work tree elsewhere`)
  if (directory.endsWith("/.git")) {
    const changes = await changesLoss(dirname(directory), directory, trusted)
    why.push(...changes.map((one) => `in ${name} ${one}`))
  }
  const inside = inTree ? `in ${name}` : "in a submodule of it,"
  return [...why, ...unfinishedIn(directory).map((one) => `${inside} ${one}`)]
}

/** The repository that stays uses objects of one that would go. */
function borrowed(common: string, path: string): string[] {
  const objects = join(common, "objects")
  const file = join(objects, "info/alternates")
  const names = existsSync(file) ? readFileSync(file, "utf8").split("\n") : []
  return names.some((name) => name !== "" && isWithin(resolve(objects, name), path))
    ? ["its repository uses objects of a repository in it"]
    : []
}
