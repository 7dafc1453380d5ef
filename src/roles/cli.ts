import { randomBytes } from "node:crypto"
import { z } from "zod"
import { tools } from "../../tools/index.ts"
import { invokeServe } from "../client/invoke-serve.ts"
import { inputFields } from "../core/decode.ts"
import { asFault } from "../core/faults.ts"
import { type Call, noProgress, type Tool } from "../core/tool.ts"
import { clean, fenced, oneLine, shellWord } from "../core/view.ts"
import { instanceHere, readConfig } from "../settings/config.ts"
import { withoutFences } from "./fence.ts"
import { kebab, type ParsedInput, parseInput, placeholder } from "./flags.ts"
import { helpOf, nearestCommand, overview } from "./help.ts"
import { createHints, type Hints } from "./hints.ts"
import { printLines } from "./json-lines.ts"
import { tableOf, terminalWidth } from "./layout.ts"
import { programInShell } from "./shell-command.ts"

/** The exit code of a wait that ended before its condition was met. */
const notMet = 3

/** A usage error: exit code 2. */
const misused = (message: string, next: string): 2 => {
  process.stderr.write(`error: ${clean(message)}\nnext: ${next}\n`)
  return 2
}

function unknownCommand(command: string, argv: readonly string[]): number {
  const program = programInShell()
  const near = nearestCommand(command)
  const next =
    near === undefined
      ? `Run \`${program} help\` for the list.`
      : [program, near, ...argv.map(shellWord)].join(" ")
  return misused(`Unknown command: ${oneLine(command, 60)}`, next)
}

/**
 * A spawn without project and goal is most likely an accident, so it starts nothing. A terminal is
 * shown the projects.
 */
async function askForTask(call: Call): Promise<2> {
  const program = programInShell()
  const spawnLine = (project: string): string =>
    `${program} spawn-instance --project ${project} --goal "${placeholder}"`
  const message = "What should the agent work on? Give a project, a goal, or both."
  if (!process.stderr.isTTY) return misused(message, spawnLine("NAME"))
  const found = await invokeServe(readConfig(), tools)("fleet_status", {}, call).catch(() => ({}))
  const projects = projectsSchema.safeParse(found).data?.projects.map(({ name }) => name) ?? []
  const shown = projects.length > 0 ? `\n  Projects: ${projects.join(", ")}` : ""
  return misused(message + shown, spawnLine(projects[0] ?? "NAME"))
}
const projectsSchema = z.object({ projects: z.array(z.object({ name: z.string() })) })

/** Hints that a person can paste into a shell on this machine. */
export const hintsInShell = (): Hints => createHints(tools, programInShell())

/**
 * Prints a failure to stderr. What others said follows `said:`; inside an instance, where a model
 * reads it, it is fenced as well.
 */
export function reportFault(error: unknown): void {
  const { message, next, untrusted } = asFault(error)
  const hints = hintsInShell()
  const others = clean(untrusted ?? "")
  const quoted =
    instanceHere() === undefined ? others : fenced(others, randomBytes(6).toString("hex"))
  process.stderr.write(`error: ${clean(hints.text(message))}\nnext: ${clean(hints.text(next))}\n`)
  if (others !== "") process.stderr.write(`said: ${quoted}\n`)
}

async function run(tool: Tool, { input, json, jsonLines }: ParsedInput): Promise<number> {
  const cancelled = new AbortController()
  process.once("SIGINT", () => cancelled.abort())
  const report: Call["progress"] = (_, message) =>
    process.stderr.write(`${oneLine(message, 200)}\n`)
  const call: Call = {
    signal: cancelled.signal,
    progress: process.stderr.isTTY ? report : noProgress,
  }
  if (
    tool.name === "spawn_instance" &&
    !["project", "repository", "goal"].some((name) => name in input)
  )
    return askForTask(call)
  const hints = hintsInShell()
  const invoke = invokeServe(readConfig(), tools)
  // Inside an instance, a model reads it.
  const read =
    instanceHere() === undefined ? withoutFences : (result: Record<string, unknown>) => result
  try {
    if (jsonLines) {
      await printLines(process.stdout, { tool, invoke, input, call, read })
      return cancelled.signal.aborted ? 130 : 0
    }
    const result = await invoke(tool.name, input, call)
    if (json) process.stdout.write(`${JSON.stringify(result, null, 2)}\n`)
    else {
      const { text, rows = [] } = tool.show(hints.result(read(result)))
      process.stdout.write(
        `${text}\n${rows.length > 0 ? `${tableOf(rows, terminalWidth())}\n` : ""}`,
      )
    }
    return result.met === false ? notMet : 0
  } catch (error) {
    if (cancelled.signal.aborted) return 130
    reportFault(error)
    return 1
  }
}

/**
 * Runs any tool from a shell. Exit code 0: done; 1: failed; 2: a usage error; 3: a wait ended
 * before its condition was met; 130: Ctrl-C.
 */
export async function cli([command = "help", ...argv]: readonly string[]): Promise<number> {
  if (command === "help" || command === "--help" || command === "-h") {
    process.stdout.write(overview(programInShell(), terminalWidth()))
    return 0
  }
  const tool = tools.find(({ name }) => kebab(name) === command)
  if (!tool) return unknownCommand(command, argv)
  const fields = inputFields(tool.input)
  if (argv.includes("--help") || argv.includes("-h")) {
    const codes =
      "met" in tool.output.shape
        ? `\nExit code: 0 when the condition is met, ${notMet} when it is not, 1 for an error.\n`
        : ""
    process.stdout.write(helpOf(tool, fields, codes, terminalWidth()))
    return 0
  }
  const parsed = parseInput(fields, argv, { hasLines: tool.lines !== undefined })
  const usage = `${programInShell()} ${command} --help`
  if (typeof parsed === "string") return misused(parsed, usage)
  const missing = fields.filter(
    ({ name, required }) => required && parsed.input[name] === undefined,
  )
  if (missing.length > 0)
    return misused(
      `${command} needs ${missing.map(({ name }) => `--${kebab(name)}`).join(" and ")}.`,
      usage,
    )
  return run(tool, parsed)
}
