import { type ParseArgsConfig, parseArgs } from "node:util"
// @ts-expect-error cliui has no types; `Table` below is the part of it that is used here.
import cliui from "cliui"
import { tools } from "../../tools/index.ts"
import { readConfig } from "../config.ts"
import { decode, type Field, fieldsOf } from "../core/decode.ts"
import { asFault } from "../core/faults.ts"
import { type Call, noProgress, type Row, type Tool } from "../core/tool.ts"
import { clean, cut, oneLine } from "../core/view.ts"
import { invokeServe } from "../find-serve.ts"

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

const kebab = (name: string): string => name.replaceAll("_", "-").replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)

/** A mistake in how the command was called: exit code 2. */
const usageError = (message: string, next: string): 2 => {
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

const hintOf = ({ kind, choices }: Field): string => {
  if (choices) return ` ${choices.join("|")}`
  return { boolean: "", number: " N", string: " TEXT", list: " A,B", json: " JSON" }[kind]
}

/** The field that words without a flag go to. */
const positionalOf = (fields: readonly Field[]): Field | undefined =>
  fields.find(({ name }) => name === "name") ?? fields.find(({ name }) => name === "names")

function helpOf(tool: Tool, fields: readonly Field[]): string {
  const positional = positionalOf(fields)
  const word = positional ? ` [${positional.name}${positional.kind === "list" ? "..." : ""}]` : ""
  const flags = fields.map((field) => [
    `  --${kebab(field.name)}${hintOf(field)}`,
    oneLine(`${field.required ? "(required) " : ""}${field.description ?? ""}`, 500),
  ])
  flags.push(["  --input JSON", "the whole input; flags win over it"], ["  --json", "print the whole result"])
  return `usage: blackbox5 ${kebab(tool.name)}${word} [flags]\n\n${tool.description}\n\n${columns(flags)}\n`
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
  return usageError(`There is no command ${asked}.`, near ? `blackbox5 ${nearest}` : "`blackbox5 help` lists all.")
}

/** Flags and words as a tool's input; text says what is wrong with them. */
function inputOf(fields: readonly Field[], argv: string[]): { input: Record<string, unknown>; json: boolean } | string {
  const options: NonNullable<ParseArgsConfig["options"]> = { input: { type: "string" }, json: { type: "boolean" } }
  for (const { name, kind } of fields)
    options[kebab(name)] = { type: kind === "boolean" ? "boolean" : "string", multiple: kind !== "boolean" }
  let parsed: ReturnType<typeof parseArgs>
  try {
    parsed = parseArgs({ args: argv, options, allowPositionals: true, allowNegative: true, strict: true })
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
  const { values, positionals } = parsed
  let whole: unknown = {}
  try {
    if (typeof values.input === "string") whole = JSON.parse(values.input)
  } catch {
    return "--input is not JSON."
  }
  if (typeof whole !== "object" || whole === null || Array.isArray(whole)) return "--input is not a JSON object."
  const flat = new Map<string, readonly string[]>()
  for (const { name } of fields) {
    const value = values[kebab(name)]
    if (value !== undefined) flat.set(name, [value].flat().map(String))
  }
  const positional = positionalOf(fields)
  if (positionals.length > 0) {
    if (!positional) return `The command takes no ${JSON.stringify(positionals[0])}.`
    if (positional.kind !== "list" && positionals.length > 1) return `The command takes one ${positional.name}.`
    flat.set(positional.name, [...(flat.get(positional.name) ?? []), ...positionals])
  }
  return { input: { ...whole, ...decode(fields, flat) }, json: values.json === true }
}

async function run(tool: Tool, input: Record<string, unknown>, json: boolean): Promise<number> {
  const cancelled = new AbortController()
  process.once("SIGINT", () => cancelled.abort())
  const told: Call["progress"] = (_, message) => process.stderr.write(`${oneLine(message, 200)}\n`)
  const call: Call = { signal: cancelled.signal, progress: process.stderr.isTTY ? told : noProgress }
  try {
    const result = await invokeServe(readConfig(), tools)(tool.name, input, call)
    if (json) process.stdout.write(`${JSON.stringify(result, null, 2)}\n`)
    else {
      const { text, rows = [] } = tool.show(result)
      process.stdout.write(`${text}\n${rows.length > 0 ? `${tableOf(rows)}\n` : ""}`)
    }
    return 0
  } catch (error) {
    if (cancelled.signal.aborted) return 130
    const { message, next } = asFault(error)
    process.stderr.write(`error: ${clean(message)}\nnext: ${clean(next)}\n`)
    return 1
  }
}

/** Any tool from a shell. Exit code 0: done; 1: a fault; 2: called wrongly. */
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
  const parsed = inputOf(fields, argv)
  if (typeof parsed === "string") return usageError(parsed, `blackbox5 ${command} --help`)
  return run(tool, parsed.input, parsed.json)
}
