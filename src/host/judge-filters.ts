import { type FilterCommands, filterCommands, type TrustedFilters } from "../core/workspace.ts"

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
