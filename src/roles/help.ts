import { tools } from "../../tools/index.ts"
import type { Field } from "../core/decode.ts"
import { cut, oneLine } from "../core/view.ts"
import { kebab, positionalOf } from "./flags.ts"
import { createHints } from "./hints.ts"
import { columns, paragraph } from "./layout.ts"

/** The texts of `blackbox5 help` and `--help`. */

type Command = readonly [name: string, what: string]
interface Group {
  readonly title: string
  readonly commands: readonly Command[]
}
const groups: readonly Group[] = [
  {
    title: "See what the agents are doing",
    commands: [
      ["top", "the fleet on one screen, live, with keys to steer it"],
      ["fleet-status", "the fleet at a glance: who needs you, and what to do next"],
      ["list-instances", "all agents, and why each is or is not running"],
      ["inspect-instance", "everything about one agent"],
      ["logs", "the output of an agent's loop; -f follows it"],
      ["read-logs", "part of a log, filtered by text or time"],
      ["read-events", "what happened, in order"],
    ],
  },
  {
    title: "Steer them",
    commands: [
      ["spawn-instance", "start an agent on a project"],
      ["message-instances", "send agents a message, once or for every iteration"],
      ["read-messages", "messages from agents, and whether yours were read"],
      ["pause-instances", "freeze agents now, or after their iteration"],
      ["resume-instances", "continue paused agents, or restart finished ones"],
      ["stop-instances", "stop agents; --remove deletes them"],
      ["update-instance", "change an agent's goal, budget, priority or labels"],
      ["wait-for-instances", "wait until agents finish or need you"],
      ["trees", "list or delete the work trees of removed agents"],
    ],
  },
  {
    title: "Set up this machine",
    commands: [
      ["serve", "run the control plane"],
      ["connect", "connect Claude Code, Claude Desktop or your shell to this fleet"],
      ["doctor", "check that this machine has what agents need"],
    ],
  },
  {
    title: "Manage people",
    commands: [
      ["create-token", "make a token for a person or a program"],
      ["list-tokens", "list who has a token"],
      ["revoke-token", "revoke a token immediately"],
      ["audit", "who changed what, and who was refused"],
    ],
  },
  {
    title: "Run by other programs",
    commands: [
      ["mcp", "speak MCP on stdin and stdout (a client runs it)"],
      ["agent", "supervise one instance (serve runs it)"],
      ["loop", "run the built-in loop in a project (an agent runs it)"],
      ["turn", "wait for a turn, then run claude (a loop runs it)"],
    ],
  },
]

/** All commands, including tools that no group lists. */
export function commandGroups(): readonly Group[] {
  const named = new Set(groups.flatMap(({ commands }) => commands.map(([name]) => name)))
  const others = tools
    .map(({ name, title }): Command => [kebab(name), title])
    .filter(([name]) => !named.has(name))
  return others.length > 0 ? [...groups, { title: "More", commands: others }] : groups
}

const footWidth = 100

/** `program` is what starts this program in a shell. */
export function overview(program: string, width: number | undefined): string {
  const all = commandGroups()
  const widest = Math.max(...all.flatMap(({ commands }) => commands.map(([name]) => name.length)))
  const sections = all.map(
    ({ title, commands }) =>
      `${title}\n${columns(
        commands.map(([name, what]) => [name.padEnd(widest), what]),
        width,
        2,
      )}`,
  )
  const command =
    program === "blackbox5"
      ? []
      : [
          `Your shell does not find the command blackbox5. To install it, run:\n\n${program} connect shell`,
        ]
  return `${[
    "usage: blackbox5 <command> [flags]",
    ...sections,
    paragraph(
      "Run `blackbox5 <command> --help` for a command's flags, and `blackbox5 --version` for the version. --json prints the complete result of a command. NO_COLOR=1 turns colours off.",
      width === undefined ? footWidth : width,
    ),
    ...command,
  ].join("\n\n")}\n`
}

/** Longer lists of choices go into the description, where they can be wrapped. */
const choicesMax = 40
const choicesOf = ({ choices = [] }: Field): string => choices.join("|")

/** The placeholder after a flag. */
function valueHint(field: Field): string {
  const { kind, fields } = field
  const choices = choicesOf(field)
  if (choices !== "" && choices.length <= choicesMax)
    return ` ${kind === "list" ? choices.replaceAll("|", ",") : choices}`
  if (kind !== "object")
    return { boolean: "", number: " N", string: " TEXT", list: " A,B", json: " JSON" }[kind]
  if (!fields) return " KEY=VALUE,…"
  const pairs = fields
    .map((field) => `${field.name}=${field.kind === "number" ? "N" : "TEXT"}`)
    .join(",")
  return fields.some(({ name }) => name === "usd") ? ` USD, or ${pairs}` : ` ${pairs}`
}

function describeField(field: Field): string {
  const { required, description, otherwise, choices = [] } = field
  const plain = ["string", "number"].includes(typeof otherwise) && otherwise !== ""
  const some = choicesOf(field).length > choicesMax ? `any of ${choices.join(", ")}` : ""
  const parts = [
    required ? "required" : "",
    description ?? "",
    some,
    plain ? `default ${otherwise}` : "",
  ]
  return oneLine(parts.filter((part) => part !== "").join("; "), 500)
}

/** The help of a tool's command. `more`: what applies only to the command line. */
export function helpOf(
  tool: { readonly name: string; readonly description: string; readonly lines?: string },
  fields: readonly Field[],
  more: string,
  width: number | undefined,
): string {
  const positional = positionalOf(fields)
  const word = positional ? ` [${positional.name}${positional.kind === "list" ? "..." : ""}]` : ""
  const flags = fields.map((field) => [
    `--${kebab(field.name)}${valueHint(field)}`,
    describeField(field),
  ])
  flags.push(
    ["--input JSON", "the whole input as JSON; flags override it"],
    ["--json", "print the complete result as JSON"],
  )
  if (tool.lines !== undefined)
    flags.push(["--json-lines", "print everything, oldest first, one JSON object per line"])
  const about = paragraph(createHints(tools, "blackbox5").text(tool.description), width)
  return `usage: blackbox5 ${kebab(tool.name)}${word} [flags]\n\n${about}\n\n${columns(flags, width, 2)}\n${more}`
}

/** The edit distance between two words. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at)
  for (const [i, letter] of [...a].entries()) {
    const above = row
    row = [i + 1]
    for (let j = 0; j < b.length; j++)
      row.push(
        Math.min(
          (above[j + 1] ?? 0) + 1,
          (row[j] ?? 0) + 1,
          (above[j] ?? 0) + (letter === b[j] ? 0 : 1),
        ),
      )
  }
  return row.at(-1) ?? 0
}

const wordMax = 60

/** The command that was probably meant, if one is similar. */
export function nearestCommand(word: string): string | undefined {
  const wanted = cut(word, wordMax).replaceAll("_", "-")
  const names = commandGroups().flatMap(({ commands }) => commands.map(([name]) => name))
  // `pause` is short for pause-instances.
  const match = names.find((name) => name.startsWith(wanted))
  if (wanted.length > 2 && match !== undefined) return match
  const nearest = names.toSorted((a, b) => distance(wanted, a) - distance(wanted, b))[0] ?? ""
  return distance(wanted, nearest) <= Math.max(2, nearest.length / 3) ? nearest : undefined
}
