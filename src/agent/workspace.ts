import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import type { Beat, Work } from "../core/beat.ts"
import { asFault, Fault } from "../core/faults.ts"
import type { Problem } from "../core/instance.ts"
import { cut, oneLine, shellWord } from "../core/view.ts"
import { armGit, commitOf, type Git, gitFault, gitIn, must } from "../host/git.ts"
import { checkFilters } from "../host/git-filters.ts"
import { entriesOf, forgetEntry, isTreeOf } from "../host/repository.ts"
import { entryLoss } from "../host/tree-loss.ts"
import { measure } from "../host/tree-work.ts"
import { readLasting, writeLasting } from "../run/lasting-files.ts"
import type { RunFile } from "../run/run-directory.ts"
import type { TreeFile } from "../run/tree-file.ts"
import { fetchClone } from "./clone.ts"
import { lock } from "./lock.ts"

/** A checkout of a large repository on a slow disk. */
const checkoutMs = 300_000
/** A clone of the largest kind and a checkout. */
const lockMs = 1_800_000
const branchesMax = 1000
/** What the last look may take. */
const lastLookMs = 3000

export interface WorkspaceOptions {
  readonly run: Pick<RunFile, "tree" | "name">
  /** The run directory; what lasts is beside it. */
  readonly directory: string
  nowMs(): number
  /** What it reports has changed. */
  changed(): void
  /** Tells people of what it could not do, though the loop can begin. */
  warn(message: string): void
}
/** The work tree of an instance, as its supervisor sees it. */
export interface Workspace {
  /**
   * Makes the tree, or finds it again; before the loop is started. Why it cannot, in words that say
   * what to do.
   */
  prepare(): Promise<Problem | undefined>
  /** Looks at it; several calls at once are one more look. Never throws. */
  look(): Promise<void>
  /** Gives up what it prepares, and looks once more, for a few seconds at the most. */
  end(): Promise<void>
  /** What a beat says of it: what it was at the last look, and what is being made. */
  report(): Pick<Beat, "work" | "activity">
}

export function createWorkspace({
  run,
  directory,
  nowMs,
  changed,
  warn,
}: WorkspaceOptions): Workspace {
  const { tree } = run
  const instance = dirname(directory)
  const ended = new AbortController()
  const { signal } = ended
  let work: Work | undefined
  let activity: Beat["activity"]
  let looking: Promise<void> | undefined
  let again = false

  const busy = (summary: string | undefined): void => {
    activity =
      summary === undefined
        ? undefined
        : { tool: "git", summary: oneLine(summary, 120), sinceMs: nowMs() }
    changed()
  }
  const lookOnce = async (): Promise<void> => {
    if (!tree) return
    const { path, own } = tree
    const begun = readLasting(instance, "begun")
    try {
      const now =
        tree.repository === undefined
          ? undefined
          : await measure(path, begun?.base, { trusted: tree.trustedFilters })
      work = { path, own, ...(now?.branch !== undefined && { branch: now.branch }) }
      // Where nobody wrote down at which commit it began, what it brought cannot be counted.
      if (now) work = { ...work, ...(begun && { commits: now.commits }), dirty: now.dirty }
    } catch {
      work = undefined // nothing is known, and nothing else depends on it
    }
    changed()
  }
  const look = async (): Promise<void> => {
    again = true
    looking ??= (async () => {
      while (again) {
        again = false
        await lookOnce()
      }
      looking = undefined
    })()
    await looking
  }

  return {
    async prepare() {
      try {
        if (tree?.own) {
          // A supervisor that was taken for dead may be at it, too.
          const release = await lock(instance, "tree.lock", signal, lockMs)
          await make(tree, instance, busy, signal).finally(release)
        } else if (tree?.repository !== undefined && !readLasting(instance, "begun")) {
          const base = await commitOf(await gitIn(tree.path, {}, signal), ["HEAD"])
          writeLasting(instance, "begun", { ...(base !== undefined && { base }), made: true })
        }
      } catch (error) {
        const fault = asFault(error)
        const message = cut(`${fault.whole} ${fault.next}`, 2000)
        if (tree?.own) return { reason: "WorkTree", message }
        // A shared tree is there whatever git says of it; but the agent's own git will say the
        // same.
        if (!signal.aborted) warn(message)
      } finally {
        busy(undefined)
      }
      void look()
      return undefined
    },
    look,
    async end() {
      ended.abort()
      await Promise.race([look(), sleep(lastLookMs, undefined, { ref: false })])
    },
    report: () => ({ ...(work && { work }), ...(activity && { activity }) }),
  }
}

/** Makes a tree of its own where it is not there. @throws Fault. */
async function make(
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
      `The git repository ${repository} is not there any more.`,
      "Bring it back, then resume the instance.",
    )
  const armed = await armGit(repository, tree.trustedFilters ?? {}, signal)
  const { git } = armed
  if (filled) {
    // Only what was cut off while it was made, before anything ran there, is taken away.
    if (begun?.made !== false || !isTreeOf(path, common))
      throw new Fault(
        "Conflict",
        `${path} is no work tree of ${repository} any more.`,
        "Save what is in it and move it away, then resume the instance: the tree is made again from its branch.",
      )
    const next = "Move it away, then resume the instance."
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
    const next = "Put right what git says, then resume the instance."
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
        `Save it (git --git-dir ${shellWord(entry.directory)} branch rescued HEAD), delete that directory, then resume the instance.`,
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
      `There is no branch, tag or commit ${ref} in ${url ?? repository}.`,
      "Spawn it again with another ref.",
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
    `${url ?? repository} has no commit yet, and a work tree of its own begins at one.`,
    "Commit something there, then resume the instance.",
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
        "Put right what git says, then resume the instance.",
      )
  }
  throw new Fault(
    "Conflict",
    `All branches ${wanted} to ${wanted}-${branchesMax} are taken.`,
    "Delete those that are not needed.",
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
