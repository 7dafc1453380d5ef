import { existsSync, readdirSync, readFileSync, statSync } from "node:fs"
import { join, relative } from "node:path"
import { type Git, must } from "./git.ts"

/** Which commits would be reachable from nowhere. */

/**
 * Branches' reflogs that are read to find out what they keep; larger ones count as keeping nothing.
 */
const reflogBytesMax = 33_554_432
const oid = /\b(?:[0-9a-f]{64}|[0-9a-f]{40})\b/g

/**
 * How many commits, reachable from these, no ref of the repository reaches, nor, if they count, a
 * reflog of its branches (which git forgets in time: enough for what somebody left behind).
 * `without`: a branch that does not count, nor its reflog. @throws Unavailable.
 */
export async function looseCommits(
  git: Git,
  common: string,
  from: readonly string[],
  { without, reflogsKeep = false }: { without?: string; reflogsKeep?: boolean } = {},
): Promise<number> {
  const zero = /^0+$/
  const wanted = [...new Set(from)].filter((one) => !zero.test(one))
  if (wanted.length === 0) return 0
  const count = async (kept: readonly string[]): Promise<number> => {
    const ran = await git(
      [
        ...[
          "--git-dir",
          common,
          "rev-list",
          "--count",
          "--ignore-missing",
          "--single-worktree",
          "--stdin",
        ],
        ...[
          "--not",
          ...(without === undefined ? [] : [`--exclude=refs/heads/${without}`]),
          "--all",
        ],
      ],
      { input: `${[...wanted, ...kept.map((one) => `^${one}`)].join("\n")}\n`, ms: 60_000 },
    )
    return Number(must(ran, "Counting commits"))
  }
  const loose = await count([])
  if (loose === 0 || !reflogsKeep) return loose
  const logs = join(common, "logs/refs")
  const reflogs = filesBelow(logs).filter(
    (file) => without === undefined || relative(logs, file) !== join("heads", without),
  )
  const bytes = reflogs.reduce((sum, file) => sum + statSync(file).size, 0)
  return count(
    bytes > reflogBytesMax
      ? []
      : [...new Set(reflogs.flatMap(oidsIn))].filter((one) => !zero.test(one)),
  )
}

export function filesBelow(directory: string): string[] {
  if (!existsSync(directory)) return []
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((child) => child.isFile())
    .map((child) => join(child.parentPath, child.name))
}
/** All commits that a branch ever stood at, as far as its reflog goes. */
export function reflogOf(common: string, branch: string): readonly string[] {
  return oidsIn(join(common, "logs/refs/heads", branch))
}
export const oidsIn = (file = ""): readonly string[] =>
  existsSync(file) ? (readFileSync(file, "latin1").match(oid) ?? []) : []
