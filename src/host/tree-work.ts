import { oneLine } from "../core/view.ts"
import type { TrustedFilters } from "../core/workspace.ts"
import { type Git, gitIn, must } from "./git.ts"

/** What stands in a work tree and is in no commit. */

/**
 * What loops themselves write into a tree: the one list, of lines of git status, for only what is
 * untracked there is no work. `.autonomous/runs` is not in it: the loop makes empty directories
 * there, and what agents write into them is theirs.
 */
const loopsOwn = [
  /^\? (?:.*\/)?\.autonomous\/LOGS\//s,
  // The public engine's, in the tree of a code root that is one repository.
  /^\? (?:.*\/)?2-engine\/\.autonomous\/\.Autonomous\/telemetry\/run-[^/]*\.json$/s,
]

export interface Measured {
  /** Undefined where HEAD is on no branch. */
  readonly branch?: string
  /** Undefined where nothing was committed yet. */
  readonly head?: string
  /** On HEAD, beyond the base; without one, all of them. */
  readonly commits: number
  /**
   * Something is changed or untracked, and not ignored; what the loop itself wrote does not count.
   */
  readonly dirty: boolean
}

/** What stands in a work tree, below `directory`. @throws Unavailable with git's own words. */
export async function measure(
  directory: string,
  base: string | undefined,
  {
    trusted = {},
    signal,
  }: { trusted?: TrustedFilters | undefined; signal?: AbortSignal | undefined } = {},
): Promise<Measured> {
  const git = await gitIn(directory, trusted, signal)
  const { branch, head, changes } = await statusOf(git, directory)
  const counted =
    head === undefined
      ? undefined
      : await git([
          "rev-list",
          "--count",
          "--end-of-options",
          base === undefined ? head : `${base}..${head}`,
        ])
  return {
    ...(branch !== undefined && { branch: oneLine(branch, 200) }),
    ...(head !== undefined && { head }),
    commits:
      counted === undefined ? 0 : Number(must(counted, `Counting the commits of ${directory}`)),
    dirty: changes.length > 0,
  }
}

export interface FileChange {
  readonly path: string
  /** The file is not in the tree, where the index has one. */
  readonly missing: boolean
}
export interface TreeStatus {
  readonly branch: string | undefined
  readonly head: string | undefined
  /** One of them stands for all where there are too many to list. */
  readonly changes: readonly FileChange[]
}
/** Paths are relative to the tree's top. @throws Unavailable with git's own words. */
export async function statusOf(
  git: Git,
  directory: string,
  indexFile?: string,
): Promise<TreeStatus> {
  const ran = await git(
    [
      ...["status", "--porcelain=v2", "--branch", "-z", "--no-renames", "--untracked-files=all"],
      // Looking into a submodule would obey its configuration; that it is at another commit is seen
      // without.
      ...["--ignore-submodules=dirty", "--", "."],
    ],
    indexFile === undefined ? {} : { indexFile },
  )
  // So much output that it was cut is no clean tree.
  if (!ran.cut || ran.stdout === "") must(ran, `git status in ${directory}`)
  const lines = ran.stdout.split("\0")
  const header = (name: string): string | undefined =>
    lines.find((line) => line.startsWith(`# ${name} `))?.slice(name.length + 3)
  const changes = lines.flatMap(changeIn)
  const [branch, head] = [header("branch.head"), header("branch.oid")]
  return {
    branch: branch === "(detached)" ? undefined : branch,
    head: head === "(initial)" ? undefined : head,
    changes: ran.cut && changes.length === 0 ? [{ path: "?", missing: false }] : changes,
  }
}

/** One line of porcelain v2: git-status(1). */
function changeIn(line: string): FileChange[] {
  const kind = line.slice(0, 2)
  if (kind === "? ")
    return loopsOwn.some((own) => own.test(line)) ? [] : [{ path: line.slice(2), missing: false }]
  if (kind !== "1 " && kind !== "u ") return []
  const fieldsBefore = kind === "1 " ? 8 : 10
  return [{ path: line.split(" ").slice(fieldsBefore).join(" "), missing: line[3] === "D" }]
}
