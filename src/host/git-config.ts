import { createHash } from "node:crypto"
import { existsSync, mkdirSync, readdirSync, realpathSync, rmSync, writeFileSync } from "node:fs"
import { homedir } from "node:os"
import { dirname, isAbsolute, join } from "node:path"
import { Fault } from "../core/faults.ts"
import { shellWord } from "../core/view.ts"
import { gitFault, runGit } from "./git.ts"
import { hasOwnSsh, personalConfigFiles, personalFile } from "./git-environment.ts"
import { replaceFile } from "./replace-file.ts"
import { contentOf, sshConfig } from "./ssh-config.ts"

/**
 * A copy of the person's own git configuration for our own git, includes and all, and of that of
 * ssh. An ordinary user's agents can write the original, and whatever program that names would run
 * outside of their namespaces. Programs stay as the person set them; only the moment at which they
 * are read is ours.
 */

/** As git's own limit, at which it takes includes for a circle. */
const depthMax = 10
const filesMax = 100

const pinnedDirectory = (stateDirectory: string): string => join(stateDirectory, "git")
export const pinnedConfig = (stateDirectory: string): string =>
  join(pinnedDirectory(stateDirectory), "config")

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
  const head =
    subsection === undefined
      ? `[${section}]`
      : `[${section} "${subsection.replace(/["\\]/g, "\\$&")}"]`
  const quoted = value
    ?.replace(/["\\]/g, "\\$&")
    .replace(/[\n\t\b]/g, (found) => escapes[found] ?? found)
  return `${head}\n\t${key}${quoted === undefined ? "" : ` = "${quoted}"`}\n`
}

const core = { section: "core", subsection: undefined } as const

/**
 * Undefined for one that depends on where git runs, and for another user's, which git itself looks
 * up.
 */
function absolutePath(value: string): string | undefined {
  if (value.startsWith("~/")) return join(homedir(), value.slice(2))
  return isAbsolute(value) ? value : undefined
}
/** What is included may stand beside the file that includes it. */
const includedPath = (value: string, from: string): string | undefined =>
  /^(?!~)(?!%\()[^/]/.test(value) ? join(dirname(from), value) : absolutePath(value)
const realPath = (path: string): string | undefined => {
  try {
    return realpathSync(path)
  } catch {
    return undefined
  }
}

/**
 * Copies the configuration as it is now; a git that runs meanwhile reads the copy of before or this
 * one. @throws Unavailable with git's own words, and what the system says where it cannot be
 * written: then the copy of before stays.
 */
export async function pinPersonalConfig(stateDirectory: string): Promise<void> {
  const directory = pinnedDirectory(stateDirectory)
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const written = new Set<string>(["config"])

  const put = (text: string | Buffer): string => {
    const name = `copy-${createHash("sha256").update(text).digest("hex").slice(0, 32)}`
    if (!written.has(name)) writeFileSync(join(directory, name), text, { mode: 0o600 })
    written.add(name)
    return join(directory, name)
  }
  /**
   * An agent that makes git ignore files would have them taken for nobody's work. A file that is
   * not there is an empty one.
   */
  const keep = (path: string): string => put(contentOf(path))
  let read = 0
  const copyOf = async (path: string, depth: number): Promise<string> => {
    if (++read > filesMax)
      throw new Fault(
        "Unavailable",
        `Your git configuration includes more than ${filesMax} files, or files that include one another.`,
        `Look at the includes in ${path}, then start blackbox5 serve again.`,
      )
    const listed = await runGit("/", ["config", "--file", path, "--no-includes", "--list", "-z"])
    if (listed.code !== 0)
      throw gitFault(
        listed,
        `Reading ${path}`,
        "Correct that file, then start blackbox5 serve again.",
      )
    const texts: string[] = []
    for (const line of listed.stdout.split("\0").slice(0, -1))
      texts.push(await entryText(entryOf(line), path, depth))
    return texts.join("")
  }
  /**
   * What is included is copied, too; what is not there is left out, for an agent could make it
   * later.
   */
  const entryText = async (entry: Entry, from: string, depth: number): Promise<string> => {
    const isList = entry.section === "core" && /^(?:excludes|attributes)file$/.test(entry.key)
    const list = isList && entry.value !== undefined ? absolutePath(entry.value) : undefined
    if (list !== undefined) return textOf({ ...entry, value: keep(list) })
    const isInclude = /^include(?:if)?$/.test(entry.section) && entry.key === "path"
    const named =
      isInclude && entry.value !== undefined ? includedPath(entry.value, from) : undefined
    if (named === undefined) return textOf(entry)
    if (!existsSync(named) || depth >= depthMax) return ""
    const copy = put(await copyOf(named, depth + 1))
    // A condition may be relative to the file that it stands in.
    const here = dirname(realPath(from) ?? from)
    const subsection = entry.subsection?.replace(
      /^(gitdir(?:\/i)?):\.\//,
      (_, word: string) => `${word}:${here}/`,
    )
    return textOf({ ...entry, subsection, value: copy })
  }

  const ssh = `ssh -F ${shellWord(put(sshConfig(put)))}`
  const texts = [
    // The person's own command counts, in the files below, in GIT_SSH_COMMAND or in GIT_SSH.
    ...(hasOwnSsh() ? [] : [textOf({ ...core, key: "sshCommand", value: ssh })]),
    textOf({ ...core, key: "excludesFile", value: keep(personalFile("ignore")) }),
    textOf({ ...core, key: "attributesFile", value: keep(personalFile("attributes")) }),
  ]
  for (const file of personalConfigFiles()) {
    if (existsSync(file)) texts.push(await copyOf(file, 0))
  }
  replaceFile(join(directory, "config"), texts.join(""))
  for (const name of readdirSync(directory))
    if (!written.has(name)) rmSync(join(directory, name), { force: true })
}
