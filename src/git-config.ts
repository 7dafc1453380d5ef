import { createHash } from "node:crypto"
import { existsSync, mkdirSync, readdirSync, realpathSync, rmSync, writeFileSync } from "node:fs"
import { homedir } from "node:os"
import { dirname, isAbsolute, join } from "node:path"
import { Fault } from "./core/faults.ts"
import { gitFault, personalConfigFiles, runGit } from "./git.ts"
import { replaceFile } from "./run-directory.ts"

/**
 * A copy of the person's own git configuration for our own git, includes and all. An ordinary user's agents can write the original, and whatever
 * program that names would run outside of their namespaces. Programs stay as the person set them; only the moment at which they are read is ours.
 */

/** As git's own limit, at which it takes includes for a circle. */
const depthMax = 10
const filesMax = 100

const pinnedDirectory = (stateDirectory: string): string => join(stateDirectory, "git")
export const pinnedConfig = (stateDirectory: string): string => join(pinnedDirectory(stateDirectory), "config")

interface Entry {
  readonly section: string
  readonly subsection: string | undefined
  readonly key: string
  /** Undefined where it stands alone, which means true. */
  readonly value: string | undefined
}
function entryOf(listed: string): Entry {
  const end = listed.indexOf("\n")
  const name = end < 0 ? listed : listed.slice(0, end)
  const [first, last] = [name.indexOf("."), name.lastIndexOf(".")]
  return {
    section: name.slice(0, first),
    subsection: first === last ? undefined : name.slice(first + 1, last),
    key: name.slice(last + 1),
    value: end < 0 ? undefined : listed.slice(end + 1),
  }
}
const escapes: Readonly<Record<string, string>> = { "\n": "\\n", "\t": "\\t", "\b": "\\b" }
/** As git-config(1) reads it. */
function textOf({ section, subsection, key, value }: Entry): string {
  const head = subsection === undefined ? `[${section}]` : `[${section} "${subsection.replace(/["\\]/g, "\\$&")}"]`
  const quoted = value?.replace(/["\\]/g, "\\$&").replace(/[\n\t\b]/g, (found) => escapes[found] ?? found)
  return `${head}\n\t${key}${quoted === undefined ? "" : ` = "${quoted}"`}\n`
}

/** A path in a configuration file: relative to that file, or to the home directory. Undefined for another user's, which git itself looks up. */
function includedPath(value: string, from: string): string | undefined {
  if (value.startsWith("~/")) return join(homedir(), value.slice(2))
  if (/^(?:~|%\()/.test(value)) return undefined
  return isAbsolute(value) ? value : join(dirname(from), value)
}
const realPath = (path: string): string | undefined => {
  try {
    return realpathSync(path)
  } catch {
    return undefined
  }
}

/**
 * Copies the configuration as it is now; a git that runs meanwhile reads the copy of before or this one. @throws Unavailable with git's own words,
 * and what the system says where it cannot be written: then the copy of before stays.
 */
export async function pinPersonalConfig(stateDirectory: string): Promise<void> {
  const directory = pinnedDirectory(stateDirectory)
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const written = new Set<string>(["config"])

  let read = 0
  const copyOf = async (path: string, depth: number): Promise<string> => {
    if (++read > filesMax)
      throw new Fault(
        "Unavailable",
        `Your git configuration includes more than ${filesMax} files, or files that include one another.`,
        `Look at the includes in ${path}, then start blackbox5 serve again.`,
      )
    const listed = await runGit("/", ["config", "--file", path, "--no-includes", "--list", "-z"])
    if (listed.code !== 0) throw gitFault(listed, `Reading ${path}`, "Correct that file, then start blackbox5 serve again.")
    const texts: string[] = []
    for (const line of listed.stdout.split("\0").slice(0, -1)) texts.push(await entryText(entryOf(line), path, depth))
    return texts.join("")
  }
  /** What is included is copied, too; what is not there is left out, for an agent could make it later. */
  const entryText = async (entry: Entry, from: string, depth: number): Promise<string> => {
    const isInclude = /^include(?:if)?$/.test(entry.section) && entry.key === "path"
    const named = isInclude && entry.value !== undefined ? includedPath(entry.value, from) : undefined
    if (named === undefined) return textOf(entry)
    if (!existsSync(named) || depth >= depthMax) return ""
    const text = await copyOf(named, depth + 1)
    const name = `included-${createHash("sha256").update(text).digest("hex").slice(0, 32)}`
    if (!written.has(name)) writeFileSync(join(directory, name), text, { mode: 0o600 })
    written.add(name)
    // A condition may be relative to the file that it stands in.
    const here = dirname(realPath(from) ?? from)
    const subsection = entry.subsection?.replace(/^(gitdir(?:\/i)?):\.\//, (_, word: string) => `${word}:${here}/`)
    return textOf({ ...entry, subsection, value: join(directory, name) })
  }

  const texts: string[] = []
  for (const file of personalConfigFiles()) {
    if (existsSync(file)) texts.push(await copyOf(file, 0))
  }
  replaceFile(join(directory, "config"), texts.join(""))
  for (const name of readdirSync(directory)) if (!written.has(name)) rmSync(join(directory, name), { force: true })
}
