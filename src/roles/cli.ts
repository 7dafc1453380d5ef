// @ts-expect-error cliui has no types; `Table` below is the part of it that is used here.
import cliui from "cliui"
import { z } from "zod"
import { tools } from "../../tools/index.ts"
import { readConfig } from "../config.ts"
import { type Field, fieldsOf } from "../core/decode.ts"
import { asFault } from "../core/faults.ts"
import { type Call, noProgress, type Row, type Tool } from "../core/tool.ts"
import { clean, cut, oneLine } from "../core/view.ts"
import { invokeServe } from "../find-serve.ts"
import { kebab, parseInput, placeholder, positionalOf } from "./flags.ts"
import { createHints, type Hints } from "./hints.ts"
import { programInShell } from "./shell-command.ts"

interface Cell {
  readonly text: string
  readonly width?: number
  readonly padding?: readonly [number, number, number, number]
}
interface Table {
  div(...cells: readonly Cell[]): void
  toString(): string
}

const roles = [
  ["top", "show the fleet on one screen, live, with keys to steer it"],
  ["logs", "print what an agent's loop prints, and follow it with -f"],
  ["doctor", "say what agents need on this machine and do not have"],
  ["connect", "make Claude Code or Claude Desktop know this fleet"],
  ["serve", "run the control plane of this machine"],
  ["mcp", "speak MCP on stdin and stdout: what a client's configuration runs"],
  ["agent", "supervise one instance (started by serve)"],
  ["loop", "run the built-in loop in a project (started by an agent)"],
  ["turn", "wait for a turn, then run claude (started by the loop)"],
] as const

/** Exit code of a wait that ended before what it waited for came about. */
const notMet = 3

/** A mistake in how the command was called: exit code 2. */
const wrongly = (message: string, next: string): 2 => {
  process.stderr.write(`error: ${clean(message)}\nnext: ${next}\n`)
  return 2
}

/** Columns, aligned; the last one takes what is left. Without a terminal nothing is broken over lines. */
function columns(rows: readonly (readonly string[])[]): string {
  const terminal = process.stdout.isTTY ? process.stdout.columns : undefined
  // 4000 columns: wider than any line that `clip` lets through.
  const width = terminal ?? 4000
  const count = Math.max(0, ...rows.map((row) => row.length))
  const widths = Array.from({ length: count }, (_, at) => Math.max(...rows.map((row) => row[at]?.length ?? 0)) + 2)
  const ui: Table = cliui({ width, wrap: true })
  for (const row of rows)
    ui.div(...row.map((text, at): Cell => (at < count - 1 ? { text, width: Math.min(widths[at] ?? 0, 60) } : { text })))
  return ui.toString()
}

function tableOf(rows: readonly Row[]): string {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))]
  const heads = names.map((name) => kebab(name).replaceAll("-", " ").toUpperCase())
  return columns([heads, ...rows.map((row) => names.map((name) => oneLine(String(row[name] ?? ""), 500)))])
}

function help(): string {
  const lines = ["usage: blackbox5 <command> [flags]", "", "Roles"]
  lines.push(columns(roles.map(([name, what]) => [`  ${name}`, what])))
  for (const toolset of new Set(tools.map((tool) => tool.toolset))) {
    const commands = tools.filter((tool) => tool.toolset === toolset)
    lines.push("", `Commands: ${toolset}`, columns(commands.map(({ name, title }) => [`  ${kebab(name)}`, title])))
  }
  return [...lines, "", "blackbox5 <command> --help says more; --json prints the whole result; --version", ""].join("\n")
}

/** What stands behind a flag in the help. */
function valueWord({ kind, choices, fields }: Field): string {
  if (choices) return ` ${choices.join(kind === "list" ? "," : "|")}`
  if (kind !== "object") return { boolean: "", number: " N", string: " TEXT", list: " A,B", json: " JSON" }[kind]
  if (!fields) return " KEY=VALUE,…"
  const pairs = fields.map((field) => `${field.name}=${field.kind === "number" ? "N" : "TEXT"}`).join(",")
  return fields.some(({ name }) => name === "usd") ? ` USD or ${pairs}` : ` ${pairs}`
}

function helpOf(tool: Tool, fields: readonly Field[]): string {
  const positional = positionalOf(fields)
  const word = positional ? ` [${positional.name}${positional.kind === "list" ? "..." : ""}]` : ""
  const flags = fields.map((field) => [
    `  --${kebab(field.name)}${valueWord(field)}`,
    oneLine(`${field.required ? "(required) " : ""}${field.description ?? ""}`, 500),
  ])
  flags.push(["  --input JSON", "the whole input; flags win over it"], ["  --json", "print the whole result"])
  const codes = "met" in tool.output.shape ? `\nExit code: 0 when it is so, ${notMet} when it is not, 1 for an error.\n` : ""
  return `usage: blackbox5 ${kebab(tool.name)}${word} [flags]\n\n${createHints(tools, "blackbox5").text(tool.description)}\n\n${columns(flags)}\n${codes}`
}

/** Changes of letters that make one word of the other. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at)
  for (const [i, letter] of [...a].entries()) {
    const above = row
    row = [i + 1]
    for (let j = 0; j < b.length; j++)
      row.push(Math.min((above[j + 1] ?? 0) + 1, (row[j] ?? 0) + 1, (above[j] ?? 0) + (letter === b[j] ? 0 : 1)))
  }
  return row.at(-1) ?? 0
}

function unknownCommand(command: string): number {
  const asked = cut(command, 60)
  const names = [...roles.map(([name]) => name), ...tools.map(({ name }) => kebab(name))]
  const nearest = names.toSorted((a, b) => distance(asked, a) - distance(asked, b))[0] ?? "help"
  const near = distance(asked, nearest) <= Math.max(2, nearest.length / 3)
  const program = programInShell()
  return wrongly(`There is no command ${asked}.`, near ? `${program} ${nearest}` : `\`${program} help\` lists all commands.`)
}

/** Starts nothing by accident: a spawn that says neither where nor what is asked for both, and a terminal is shown the projects there are. */
async function askForTask(call: Call): Promise<2> {
  const program = programInShell()
  const spawnLine = (project: string): string => `${program} spawn-instance --project ${project} --goal "${placeholder}"`
  const message = "Say what the agent is to work on: a project, a goal, or both."
  if (!process.stderr.isTTY) return wrongly(message, spawnLine("NAME"))
  const found = await invokeServe(readConfig(), tools)("fleet_status", {}, call).catch(() => ({}))
  const projects = projectsSchema.safeParse(found).data?.projects.map(({ name }) => name) ?? []
  const shown = projects.length > 0 ? `\n  Projects here: ${projects.join(", ")}` : ""
  return wrongly(message + shown, spawnLine(projects[0] ?? "NAME"))
}
const projectsSchema = z.object({ projects: z.array(z.object({ name: z.string() })) })

/** Hints as a person can paste them where this program runs. */
export const hintsInShell = (): Hints => createHints(tools, programInShell())

async function run(tool: Tool, input: Record<string, unknown>, json: boolean): Promise<number> {
  const cancelled = new AbortController()
  process.once("SIGINT", () => cancelled.abort())
  const told: Call["progress"] = (_, message) => process.stderr.write(`${oneLine(message, 200)}\n`)
  const call: Call = { signal: cancelled.signal, progress: process.stderr.isTTY ? told : noProgress }
  if (tool.name === "spawn_instance" && !["project", "repository", "goal"].some((name) => name in input)) return askForTask(call)
  const hints = hintsInShell()
  try {
    const result = await invokeServe(readConfig(), tools)(tool.name, input, call)
    if (json) process.stdout.write(`${JSON.stringify(result, null, 2)}\n`)
    else {
      const { text, rows = [] } = tool.show(hints.result(result))
      process.stdout.write(`${text}\n${rows.length > 0 ? `${tableOf(rows)}\n` : ""}`)
    }
    return result.met === false ? notMet : 0
  } catch (error) {
    if (cancelled.signal.aborted) return 130
    const { message, next } = asFault(error)
    process.stderr.write(`error: ${clean(hints.text(message))}\nnext: ${clean(hints.text(next))}\n`)
    return 1
  }
}

/** Any tool from a shell. Exit code 0: done; 1: a fault; 2: called wrongly; 3: a wait ended without what it waited for; 130: Ctrl-C. */
export async function cli([command = "help", ...argv]: readonly string[]): Promise<number> {
  if (command === "help" || command === "--help" || command === "-h") {
    process.stdout.write(help())
    return 0
  }
  const tool = tools.find(({ name }) => kebab(name) === command)
  if (!tool) return unknownCommand(command)
  const fields = fieldsOf(tool.input)
  if (argv.includes("--help") || argv.includes("-h")) {
    process.stdout.write(helpOf(tool, fields))
    return 0
  }
  const parsed = parseInput(fields, argv)
  const usage = `${programInShell()} ${command} --help`
  if (typeof parsed === "string") return wrongly(parsed, usage)
  const { input, json } = parsed
  const missing = fields.filter(({ name, required }) => required && input[name] === undefined)
  if (missing.length > 0)
    return wrongly(`${command} needs ${missing.map(({ name }) => `--${kebab(name)}`).join(" and ")}.`, usage)
  return run(tool, input, json)
}
