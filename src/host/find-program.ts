import { execFile, execFileSync } from "node:child_process"
import { accessSync, constants, statSync } from "node:fs"
import { homedir, userInfo } from "node:os"
import { delimiter, dirname, join, sep } from "node:path"
import { promisify } from "node:util"

/** Where programs are, for one that a shell started and for one that a desktop app did. */

/** A login shell that waits for somebody is not waited for longer. */
const loginShellMs = 5000

export const executable = (path: string): boolean => {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}
const entriesOf = (path: string): readonly string[] => path.split(delimiter)
const namedIn = (path: string, name: string): readonly string[] =>
  entriesOf(path)
    .filter((entry) => entry.startsWith("/"))
    .map((entry) => join(entry, name))
    .filter(executable)

/** The executable files of that name on PATH, as a shell that was started from here finds them. */
export const programsOnPath = (name: string): readonly string[] =>
  namedIn(process.env.PATH ?? "", name)
/** Whether a shell that was started from here looks for programs in a directory. */
export const isOnPath = (directory: string): boolean =>
  entriesOf(process.env.PATH ?? "").includes(directory)

/**
 * What most systems look through where nobody says otherwise (confstr, the shells' own default).
 */
const usualPath = "/usr/local/bin:/usr/bin:/bin"
/**
 * npm puts these of all packages above first, whether or not they are there: whoever may write
 * above could make one later.
 */
const isMissingOfNpm = (entry: string): boolean =>
  entry.endsWith("/node_modules/.bin") && !isDirectory(entry)
const isDirectory = (path: string): boolean =>
  statSync(path, { throwIfNoEntry: false })?.isDirectory() === true
/**
 * For the rest of this process and all that it starts: a relative or empty entry of PATH would be
 * another directory for each of them, also one that an agent writes.
 */
export function dropRelativePath(): void {
  const kept = entriesOf(process.env.PATH ?? "").filter(
    (entry) => entry.startsWith("/") && !isMissingOfNpm(entry),
  )
  process.env.PATH = kept.join(delimiter) || usualPath
}

export const isBelow = (path: string, directory: string): boolean =>
  path === directory || path.startsWith(directory.endsWith(sep) ? directory : directory + sep)

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK)
    return true
  } catch {
    return false
  }
}
/**
 * Whether agents, which are this user, could put a program there. Root could anywhere: of its
 * directories, those below its home count.
 */
function isWithinReach(directory: string): boolean {
  if (process.geteuid?.() === 0) return isBelow(directory, homedir())
  for (let at = directory; ; at = dirname(at)) {
    if (isWritable(at)) return true
    if (at === dirname(at)) return false
  }
}

/**
 * Those entries first in which agents cannot put another program, and each part in its order: an
 * agent that writes `git` into ~/.local/bin does not thereby change what runs outside of its
 * namespaces.
 */
export function safestFirst(entries: readonly string[]): readonly string[] {
  const within = new Set(entries.filter(isWithinReach))
  return [...entries.filter((entry) => !within.has(entry)), ...within]
}
let outside: { readonly of: string; readonly path: string } | undefined
/** PATH for the programs that run outside of agents' namespaces. */
export function outsidePath(): string {
  const of = process.env.PATH ?? usualPath
  if (outside?.of !== of)
    outside = {
      of,
      path: safestFirst(entriesOf(of).filter((entry) => entry.startsWith("/"))).join(delimiter),
    }
  return outside.path
}
/**
 * A program that runs outside of agents' namespaces: an absolute path, or the bare name where there
 * is none, which then cannot be started.
 */
export const programOutside = (name: string): string => namedIn(outsidePath(), name)[0] ?? name

/**
 * Its profile files may be an agent's work: it is asked where a person has just started something,
 * and never while agents alone are there.
 */
const askedOfLoginShell = (): readonly [string, readonly string[]] | undefined => {
  try {
    const { shell } = userInfo()
    // What a profile prints comes before; the last line is ours.
    return shell ? [shell, ["-lc", `printf '\\n%s' "$PATH"`]] : undefined
  } catch {
    return undefined // no such user
  }
}
const shellOptions = {
  cwd: "/",
  encoding: "utf8",
  timeout: loginShellMs,
  maxBuffer: 1_048_576,
} as const
const lastLineOf = (said: string): string => said.slice(said.lastIndexOf("\n") + 1)

let loginPath: (() => string) | undefined
/** From now on this process takes the login shell's PATH from there, and does not ask the shell. */
export function takeLoginPathFrom(known: () => string): void {
  loginPath = known
}
/**
 * PATH as the login shell sets it up, asked once: what a desktop app starts has no Homebrew on its
 * PATH. Empty when it cannot be had.
 */
function knownLoginPath(): string {
  if (loginPath) return loginPath()
  let found = ""
  try {
    const asked = askedOfLoginShell()
    if (asked)
      found = lastLineOf(
        execFileSync(...asked, { ...shellOptions, stdio: ["ignore", "pipe", "ignore"] }),
      )
  } catch {
    // No such shell, or one that lets nobody in.
  }
  loginPath = () => found
  return found
}
/** The same, asked anew, for a process that goes on meanwhile. */
export async function askLoginShell(): Promise<string> {
  const asked = askedOfLoginShell()
  if (!asked) return ""
  const asking = promisify(execFile)(...asked, shellOptions)
  asking.child.stdin?.end()
  return asking.then(
    ({ stdout }) => lastLineOf(stdout),
    () => "",
  )
}

/**
 * Where programs are looked for: the entries of PATH, then those that only the login shell's PATH
 * has.
 */
export const searchedDirectories = (): readonly string[] => [
  ...new Set(
    [process.env.PATH ?? "", knownLoginPath()].flatMap(entriesOf).filter((entry) => entry !== ""),
  ),
]

/**
 * The executable files of that name, absolute paths: those on PATH, then those on the login shell's
 * PATH, which is asked only when needed.
 */
export function* programsNamed(name: string): Generator<string> {
  yield* namedIn(process.env.PATH ?? "", name)
  yield* namedIn(knownLoginPath(), name)
}
