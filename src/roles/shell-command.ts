import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  type Stats,
  writeFileSync,
} from "node:fs"
import { dirname, join } from "node:path"
import { createInterface } from "node:readline/promises"
import { z } from "zod"
import { lastingProgram, mainPath } from "../client/program.ts"
import { asFault, Fault } from "../core/faults.ts"
import { shellWord } from "../core/view.ts"
import { isOnPath, programsOnPath } from "../host/find-program.ts"
import { replaceFile } from "../host/replace-file.ts"
import { userBinDirectory } from "../settings/config.ts"

/**
 * The command `blackbox5`: a small launcher in ~/.local/bin, and what else PATH finds by the name.
 */

const commandName = "blackbox5"
const launcherMark = "# Made by blackbox5 for "
const launcherBytesMax = 65_536
/** The question is withdrawn after this. */
const answerMs = 60_000

const programSchema = z.tuple([z.string(), z.string()])

export const launcherPath = (): string => join(userBinDirectory(), commandName)

/**
 * A script that runs the program by absolute paths, with any characters in them, and reports when
 * it is gone. The mark distinguishes it from files that are not ours.
 */
export function launcherScript([node, main]: readonly [string, string]): string {
  const gone = `error: this command runs ${main}, which no longer exists.\nnext: run npm start in a checkout of blackbox5 to reinstall it, or delete ${launcherPath()}.`
  return [
    "#!/bin/sh",
    launcherMark + JSON.stringify([node, main]),
    `if ! [ -x ${shellWord(node)} ] || ! [ -f ${shellWord(main)} ]; then`,
    `  printf '%s\\n' ${shellWord(gone)} >&2`,
    "  exit 127",
    "fi",
    `exec ${shellWord(node)} ${shellWord(main)} "$@"`,
    "",
  ].join("\n")
}

/** A file with the command's name, and what it runs. */
export interface FoundCommand {
  readonly path: string
  /** The main file that it runs, if it is a launcher or link of ours. */
  readonly main: string | undefined
  /** Whether what it runs still exists. */
  readonly isThere: boolean
}

/** Undefined when there is no file, or cannot be one: HOME may not be a directory. */
function entryAt(path: string): Stats | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false })
  } catch {
    return undefined
  }
}
export function lookAtCommand(path: string): FoundCommand | undefined {
  const entry = entryAt(path)
  if (!entry) return undefined
  try {
    const target = realpathSync(path)
    if (target === realpathSync(mainPath)) return { path, main: mainPath, isThere: true }
    const text = entry.isFile() && entry.size <= launcherBytesMax ? readFileSync(path, "utf8") : ""
    const line = text.split("\n").find((one) => one.startsWith(launcherMark))
    const launched =
      line === undefined
        ? undefined
        : programSchema.safeParse(JSON.parse(line.slice(launcherMark.length))).data
    return launched
      ? { path, main: launched[1], isThere: launched.every((one) => existsSync(one)) }
      : { path, main: undefined, isThere: true }
  } catch {
    // A broken link, or a file that this user cannot read.
    return { path, main: undefined, isThere: false }
  }
}

export const runsThisProgram = ({ main, isThere }: FoundCommand): boolean =>
  isThere && main !== undefined && (main === mainPath || main === lastingProgram()[1])

/**
 * What PATH finds first by the command's name. The directories that npm adds for its scripts are
 * skipped, because a person's shell does not have them.
 */
export function commandOnPath(): FoundCommand | undefined {
  const path = programsOnPath(commandName).find((one) => !/\/node_modules\/\.bin\/[^/]+$/.test(one))
  return path === undefined ? undefined : lookAtCommand(path)
}

/**
 * What starts this program in a shell: the command if it runs this program, else absolute paths.
 */
export function programInShell(): string {
  const found = commandOnPath()
  return found && runsThisProgram(found)
    ? commandName
    : [process.execPath, mainPath].map(shellWord).join(" ")
}

/**
 * Writes the launcher, or points ours at this program. @throws Conflict for a file that is not
 * ours, Unavailable when it cannot be written.
 */
export function installCommand(): string {
  const path = launcherPath()
  const found = lookAtCommand(path)
  if (found && runsThisProgram(found))
    return [`${path} already runs this program.`, ...pathAdvice(path)].join("\n")
  if (found && found.main === undefined)
    throw new Fault(
      "Conflict",
      `${path} exists and was not made by blackbox5. Nothing was changed.`,
      "Move it away, then try again.",
    )
  try {
    mkdirSync(dirname(path), { recursive: true })
    const text = launcherScript(lastingProgram())
    // Never overwrites a file that somebody else creates meanwhile.
    if (found) replaceFile(path, text, 0o755)
    else writeFileSync(path, text, { mode: 0o755, flag: "wx" })
  } catch (error) {
    if (error instanceof Fault) throw error
    const why = error instanceof Error ? error.message : String(error)
    throw new Fault(
      "Unavailable",
      `Cannot write ${path} (${why}).`,
      "Make it writable, then try again.",
      error,
    )
  }
  return [
    `Installed the command ${commandName} at ${path}. It runs ${lastingProgram()[1]}.`,
    ...pathAdvice(path),
  ].join("\n")
}

/** Why a shell would not find the command, and what to do. */
function pathAdvice(path: string): readonly string[] {
  const directory = dirname(path)
  if (!isOnPath(directory))
    return [
      `${directory} is not on your PATH. Add this line to ~/.profile, or the file that your shell reads, and open a new shell:`,
      `  export PATH="$HOME/.local/bin:$PATH"`,
    ]
  const first = commandOnPath()
  return first && first.path !== path ? [`However, your PATH finds ${first.path} first.`] : []
}

/** Deletes the launcher. @throws Conflict for a file that is not ours. */
export function removeCommand(): string {
  const path = launcherPath()
  const found = lookAtCommand(path)
  if (!found) return `${path} does not exist. Nothing was changed.`
  if (found.main === undefined)
    throw new Fault(
      "Conflict",
      `${path} was not made by blackbox5. Nothing was changed.`,
      "If you want to, delete it yourself.",
    )
  rmSync(path)
  return `Deleted ${path}.`
}

/** True when there is no launcher, or ours runs another program or none. */
export function isOfferable(): boolean {
  const onPath = commandOnPath()
  if (onPath && runsThisProgram(onPath)) return false
  const found = lookAtCommand(launcherPath())
  return found === undefined || (found.main !== undefined && !runsThisProgram(found))
}

/**
 * A background job that reads from its terminal is stopped, and with it all that it serves. Without
 * /proc this is false, and nobody is asked.
 */
function isInForeground(): boolean {
  try {
    const stat = readFileSync("/proc/self/stat", "utf8")
    // proc_pid_stat(5): after the name in parentheses: state, ppid, pgrp, session, tty_nr, tpgid.
    const [, , group, , , foreground] = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
    return group === foreground
  } catch {
    return false
  }
}

/** One line from the terminal; undefined after `answerMs`, or when the process is stopped. */
async function askTerminal(question: string, signal: AbortSignal): Promise<string | undefined> {
  const closed = new AbortController()
  const close = (): void => closed.abort()
  // terminal: false keeps Ctrl-C a signal.
  const reader = createInterface({ input: process.stdin, output: process.stdout, terminal: false })
  reader.once("close", close)
  process.once("SIGCONT", close) // it was stopped, and may now be a background job
  const late = setTimeout(close, answerMs)
  try {
    return await reader.question(question, { signal: AbortSignal.any([signal, closed.signal]) })
  } catch {
    return undefined
  } finally {
    clearTimeout(late)
    process.off("SIGCONT", close)
    reader.close()
  }
}

/**
 * Offers to install the command. Without a terminal, or without a yes, it prints how to install it
 * later.
 */
export async function offerCommand(signal: AbortSignal): Promise<void> {
  if (!isOfferable()) return
  const say = (text: string): void => void process.stdout.write(text)
  const later = `To install the command ${commandName}, run:\n  ${programInShell()} connect shell\n`
  if (!process.stdin.isTTY || !process.stdout.isTTY || !isInForeground()) return say(later)
  const answer = await askTerminal(
    `Install ${launcherPath()}, so that every shell has the command ${commandName}? [Y/n] `,
    signal,
  )
  if (signal.aborted) return
  if (answer === undefined) return say(`\n${later}`)
  if (!/^\s*(y|yes)?\s*$/i.test(answer)) return say(later)
  try {
    say(`${installCommand()}\n`)
  } catch (error) {
    const { message, next } = asFault(error)
    say(`${message} ${next}\n`)
  }
}
