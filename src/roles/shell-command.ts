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
 * The command `blackbox5` of a person's shells: a small launcher in ~/.local/bin, and what else
 * PATH finds by that name.
 */

const commandName = "blackbox5"
const launcherMark = "# Made by blackbox5 for "
const launcherBytesMax = 65_536
/** Nobody who walked away keeps a question open. */
const answerMs = 60_000

const programSchema = z.tuple([z.string(), z.string()])

export const launcherPath = (): string => join(userBinDirectory(), commandName)

/**
 * Runs a program by absolute paths, whatever is in them, and says so when it is gone. The mark
 * tells it from other people's files.
 */
export function launcherOf([node, main]: readonly [string, string]): string {
  const gone = `error: this command runs ${main}, which is gone.\nnext: npm start in a checkout of blackbox5 makes the command again; or delete ${launcherPath()}.`
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

/** What a file with the command's name runs: a program of ours, or nothing that is known. */
export interface Found {
  readonly path: string
  /** The main file that it runs, where it is a launcher or a link of ours. */
  readonly main: string | undefined
  /** Whether that is still there. */
  readonly isThere: boolean
}

/**
 * Undefined where there is no such file, and where there cannot be one: HOME may be no directory.
 */
function entryAt(path: string): Stats | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false })
  } catch {
    return undefined
  }
}
export function lookAtCommand(path: string): Found | undefined {
  const entry = entryAt(path)
  if (!entry) return undefined
  try {
    const target = realpathSync(path)
    if (target === realpathSync(mainPath)) return { path, main: mainPath, isThere: true }
    const text = entry.isFile() && entry.size <= launcherBytesMax ? readFileSync(path, "utf8") : ""
    const line = text.split("\n").find((one) => one.startsWith(launcherMark))
    const said =
      line === undefined
        ? undefined
        : programSchema.safeParse(JSON.parse(line.slice(launcherMark.length))).data
    return said
      ? { path, main: said[1], isThere: said.every((one) => existsSync(one)) }
      : { path, main: undefined, isThere: true }
  } catch {
    // A link that leads nowhere, or what this user may not read.
    return { path, main: undefined, isThere: false }
  }
}

export const runsThisProgram = ({ main, isThere }: Found): boolean =>
  isThere && main !== undefined && (main === mainPath || main === lastingProgram()[1])

/**
 * What PATH finds first by the command's name. An npm script's own directories are not on the PATH
 * of a person's shell.
 */
export function commandOnPath(): Found | undefined {
  const path = programsOnPath(commandName).find((one) => !/\/node_modules\/\.bin\/[^/]+$/.test(one))
  return path === undefined ? undefined : lookAtCommand(path)
}

/**
 * What starts this program in a shell: the command where PATH finds it and it is this program, else
 * absolute paths.
 */
export function programInShell(): string {
  const found = commandOnPath()
  return found && runsThisProgram(found)
    ? commandName
    : [process.execPath, mainPath].map(shellWord).join(" ")
}

/**
 * Makes the launcher, or makes ours lead here. @throws Conflict for somebody else's file,
 * Unavailable when it cannot be written.
 */
export function installCommand(): string {
  const path = launcherPath()
  const found = lookAtCommand(path)
  if (found && runsThisProgram(found))
    return [`${path} runs this program already.`, ...pathAdvice(path)].join("\n")
  if (found && found.main === undefined)
    throw new Fault(
      "Conflict",
      `${path} is there already, and blackbox5 did not make it; nothing was changed.`,
      "Move it aside, then try again.",
    )
  try {
    mkdirSync(dirname(path), { recursive: true })
    const text = launcherOf(lastingProgram())
    // Made by whoever is first: what another puts there meanwhile is not overwritten.
    if (found) replaceFile(path, text, 0o755)
    else writeFileSync(path, text, { mode: 0o755, flag: "wx" })
  } catch (error) {
    if (error instanceof Fault) throw error
    const why = error instanceof Error ? error.message : String(error)
    throw new Fault(
      "Unavailable",
      `${path} could not be written (${why}).`,
      "Make it writable, then try again.",
      error,
    )
  }
  return [
    `The command ${commandName} is ${path} now. It runs ${lastingProgram()[1]}.`,
    ...pathAdvice(path),
  ].join("\n")
}

/** Why a shell would not find it, and what to do. */
function pathAdvice(path: string): readonly string[] {
  const directory = dirname(path)
  if (!isOnPath(directory))
    return [
      `${directory} is not on your PATH yet. Put this line into ~/.profile, or whatever your shell reads, and open a new shell:`,
      `  export PATH="$HOME/.local/bin:$PATH"`,
    ]
  const first = commandOnPath()
  return first && first.path !== path ? [`But your PATH finds ${first.path} first.`] : []
}

/** Takes the launcher away. @throws Conflict for somebody else's file. */
export function removeCommand(): string {
  const path = launcherPath()
  const found = lookAtCommand(path)
  if (!found) return `There is no ${path}; nothing was changed.`
  if (found.main === undefined)
    throw new Fault(
      "Conflict",
      `blackbox5 did not make ${path}; nothing was changed.`,
      "Delete it yourself if you mean to.",
    )
  rmSync(path)
  return `${path} is deleted.`
}

/**
 * Whether there is something to offer: no file of that name, or one of ours that leads elsewhere or
 * nowhere.
 */
export function isOfferable(): boolean {
  const onPath = commandOnPath()
  if (onPath && runsThisProgram(onPath)) return false
  const found = lookAtCommand(launcherPath())
  return found === undefined || (found.main !== undefined && !runsThisProgram(found))
}

/**
 * A background job that reads from its terminal is stopped, with all that it serves. Without /proc
 * nobody is asked.
 */
function isInForeground(): boolean {
  try {
    const stat = readFileSync("/proc/self/stat", "utf8")
    // proc_pid_stat(5): behind the name in parentheses come state, ppid, pgrp, session, tty_nr,
    // tpgid.
    const [, , group, , , foreground] = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
    return group === foreground
  } catch {
    return false
  }
}

/**
 * One line from the terminal; undefined when it does not come in time, or the process leaves the
 * foreground.
 */
async function askTerminal(question: string, signal: AbortSignal): Promise<string | undefined> {
  const closed = new AbortController()
  const close = (): void => closed.abort()
  // Not as a terminal of its own: Ctrl-C stays a signal.
  const reader = createInterface({ input: process.stdin, output: process.stdout, terminal: false })
  reader.once("close", close)
  process.once("SIGCONT", close) // it was stopped, and may be a background job now
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
 * Offers the command to whoever sits at the terminal. Elsewhere, and where the answer is no or
 * never comes, it prints the line that makes the command from any shell.
 */
export async function offerCommand(signal: AbortSignal): Promise<void> {
  if (!isOfferable()) return
  const say = (text: string): void => void process.stdout.write(text)
  const later = `To have the command ${commandName} in every shell, run:\n  ${programInShell()} connect shell\n`
  if (!process.stdin.isTTY || !process.stdout.isTTY || !isInForeground()) return say(later)
  const answer = await askTerminal(
    `Make ${launcherPath()}, so that ${commandName} is a command in every shell? [Y/n] `,
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
