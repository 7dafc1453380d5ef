import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Fault } from "../core/faults.ts"
import { oneLine } from "../core/view.ts"
import { type FilterCommands, filterCommands, type TrustedFilters } from "../core/workspace.ts"
import { type ArmedGit, listBytesMax, must } from "./git.ts"

/**
 * Filters change what git writes into a tree and what it commits (gitattributes(5): git-crypt,
 * LFS). Those of the person's own configuration are run. Those that only a repository's
 * configuration defines are not, for agents write that file, unless the policy names their very
 * commands.
 */

interface Judged {
  /** What is set above the repository's own configuration. */
  readonly config: readonly (readonly [string, string])[]
  readonly untrusted: ReadonlyMap<string, FilterCommands>
}

/** `listed`: what `git config --list --show-scope --includes -z` prints. */
export function judgeFilters(listed: string, trusted: TrustedFilters): Judged {
  const persons = new Map<string, string>()
  const planted = new Map<string, string>()
  const fields = listed.split("\0")
  for (let at = 0; at + 1 < fields.length; at += 2) {
    const [scope, entry = ""] = [fields[at], fields[at + 1]]
    const cut = entry.indexOf("\n")
    const key = cut < 0 ? entry : entry.slice(0, cut)
    const ofRepository = scope === "local" || scope === "worktree"
    ;(ofRepository ? planted : persons).set(key, cut < 0 ? "true" : entry.slice(cut + 1))
  }
  const config: [string, string][] = []
  const untrusted = new Map<string, FilterCommands>()
  const judged = new Map<string, boolean>()
  for (const key of planted.keys()) {
    if (/^hook\..*\.(?:command|event|enabled)$/s.test(key))
      config.push([key, key.endsWith(".enabled") ? "false" : ""])
    const [, name, field] = /^filter\.(.*)\.(clean|smudge|process|required)$/s.exec(key) ?? []
    if (name === undefined) continue
    const here = commandsOf(name, planted)
    const personal = commandsOf(name, persons)
    // A process cannot be unset again, and git would run nothing else beside it, not even an empty
    // one.
    const own =
      here?.process !== undefined && personal?.process === undefined ? undefined : personal
    const isTrusted =
      judged.get(name) ?? (own === undefined && here !== undefined && areEqual(here, trusted[name]))
    judged.set(name, isTrusted)
    if (isTrusted) continue
    if (own === undefined && here !== undefined) untrusted.set(name, here)
    const value = own === undefined ? undefined : persons.get(key)
    config.push([key, value ?? (field === "required" ? "false" : "")])
  }
  return { config, untrusted }
}

function commandsOf(name: string, values: ReadonlyMap<string, string>): FilterCommands | undefined {
  const found = filterCommands.flatMap((field) => {
    const value = values.get(`filter.${name}.${field}`)
    return value ? [[field, value]] : []
  })
  return found.length === 0 ? undefined : Object.fromEntries(found)
}
const areEqual = (a: FilterCommands, b: FilterCommands | undefined): boolean =>
  b !== undefined && filterCommands.every((field) => (a[field] ?? "") === (b[field] ?? ""))

/**
 * Nothing, when a checkout of that commit runs no filter that is not trusted. Otherwise files would
 * be written that the agent's git, which obeys the repository, would encode twice. @throws Invalid,
 * with the line for the policy; Unavailable.
 */
export async function checkFilters(
  { git, untrusted }: ArmedGit,
  common: string,
  commit: string,
): Promise<void> {
  if (untrusted.size === 0) return
  const directory = mkdtempSync(join(tmpdir(), "blackbox5-index-"))
  try {
    const options = { indexFile: join(directory, "index"), bytesMax: listBytesMax, ms: 60_000 }
    const what = `Reading the files of ${commit}`
    must(await git(["read-tree", commit], options), what)
    const files = await git(["ls-tree", "-r", "-z", "--name-only", commit], options)
    must(files, what)
    // In an empty tree of its own: attributes are those of the commit, not those that lie about in
    // somebody's.
    const empty = ["-C", directory, "--git-dir", common, "--work-tree", directory]
    const asked = [...empty, "check-attr", "--cached", "--stdin", "-z", "filter"]
    const attributes = await git(asked, { ...options, input: files.stdout })
    must(attributes, what)
    // Path, attribute, value; path, attribute, value ...
    const name = attributes.stdout
      .split("\0")
      .find((value, at) => at % 3 === 2 && untrusted.has(value))
    const commands = untrusted.get(name ?? "")
    if (name === undefined || commands === undefined) return
    throw new Fault(
      "Invalid",
      `Files of the repository pass through a filter that only its own configuration defines. Agents can write that file, so Blackbox5 does not run the filter's commands, and without them a work tree of its own would hold wrong files.`,
      "Read the commands; if they are yours, add them to policy.yaml under trustedFilters, or define the filter in your own configuration (git config --global; for LFS: git lfs install).",
      undefined,
      `Of ${oneLine(common, 300)}, as a line for policy.yaml: trustedFilters: ${oneLine(JSON.stringify({ [name]: commands }), 600)}`,
    )
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}
