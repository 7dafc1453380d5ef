import { tools } from "../../tools/index.ts"
import type { Field } from "../core/decode.ts"
import { cut, oneLine } from "../core/view.ts"
import { kebab, positionalOf } from "./flags.ts"
import { createHints } from "./hints.ts"
import { columns, paragraph } from "./layout.ts"

/** What `blackbox5 help` and `--help` say. */

type Command = readonly [name: string, what: string]
interface Group {
  readonly title: string
  readonly commands: readonly Command[]
}
const groups: readonly Group[] = [
  {
    title: "See what the agents do",
    commands: [
      ["top", "the fleet on one screen, live, with keys to steer it"],
      ["fleet-status", "the fleet at a glance: who needs you, and what to do"],
      ["list-instances", "the agents, each with why it is or is not running"],
      ["inspect-instance", "everything about one agent"],
      ["logs", "what an agent's loop prints; -f follows it"],
      ["read-logs", "a page of the log, searched or since some time"],
      ["read-events", "what happened, in order"],
    ],
  },
  {
    title: "Steer them",
    commands: [
      ["spawn-instance", "start an agent on a project"],
      ["message-instances", "tell agents something, now or for all later iterations"],
      ["read-messages", "what agents wrote to you, and what became of your messages"],
      ["pause-instances", "freeze agents at once, or after their iteration"],
      ["resume-instances", "let them go on, or start those that ended afresh"],
      ["stop-instances", "end agents; --remove deletes them"],
      ["update-instance", "change an agent's goal, budget, priority or labels"],
      ["wait-for-instances", "wait until agents finish or need you"],
      ["trees", "list the work trees that removed agents left, and delete them"],
    ],
  },
  {
    title: "Set up this machine",
    commands: [
      ["serve", "run the control plane"],
      ["connect", "tell Claude Code, Claude Desktop or your shell about this fleet"],
      ["doctor", "check that agents have what they need here"],
    ],
  },
  {
    title: "Manage people",
    commands: [
      ["create-token", "make a token for a person or a program"],
      ["list-tokens", "who has a token"],
      ["revoke-token", "end a token at once"],
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

/** All commands, also those of tools that no group names yet. */
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
          `Your shell does not find the command blackbox5. This makes it:\n\n${program} connect shell`,
        ]
  return `${[
    "usage: blackbox5 <command> [flags]",
    ...sections,
    paragraph(
      "`blackbox5 <command> --help` lists a command's flags. --json prints the whole result of a command. `blackbox5 --version` prints the version. NO_COLOR=1 leaves colours out.",
      width === undefined ? footWidth : width,
    ),
    ...command,
  ].join("\n\n")}\n`
}

/** More choices than this are told in the description, where they can be broken over lines. */
const choicesMax = 40
const choicesOf = ({ choices = [] }: Field): string => choices.join("|")

/** What stands behind a flag. */
function valueWord(field: Field): string {
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

function whatItIs(field: Field): string {
  const { required, description, otherwise, choices = [] } = field
  const plain = ["string", "number"].includes(typeof otherwise) && otherwise !== ""
  const some = choicesOf(field).length > choicesMax ? `some of ${choices.join(", ")}` : ""
  const parts = [
    required ? "required" : "",
    description ?? "",
    some,
    plain ? `default ${otherwise}` : "",
  ]
  return oneLine(parts.filter((part) => part !== "").join("; "), 500)
}

/** The help of a tool's command. `more` is what only the command line has to say. */
export function helpOf(
  tool: { readonly name: string; readonly description: string; readonly lines?: string },
  fields: readonly Field[],
  more: string,
  width: number | undefined,
): string {
  const positional = positionalOf(fields)
  const word = positional ? ` [${positional.name}${positional.kind === "list" ? "..." : ""}]` : ""
  const flags = fields.map((field) => [
    `--${kebab(field.name)}${valueWord(field)}`,
    whatItIs(field),
  ])
  flags.push(
    ["--input JSON", "the whole input; flags win over it"],
    ["--json", "print the whole result as JSON"],
  )
  if (tool.lines !== undefined)
    flags.push(["--json-lines", "print all of it, oldest first, one JSON object a line"])
  const about = paragraph(createHints(tools, "blackbox5").text(tool.description), width)
  return `usage: blackbox5 ${kebab(tool.name)}${word} [flags]\n\n${about}\n\n${columns(flags, width, 2)}\n${more}`
}

/** Changes of letters that make one word of the other. */
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

const askedMax = 60

/** The command that was probably meant, if one is near. */
export function nearestCommand(word: string): string | undefined {
  const asked = cut(word, askedMax).replaceAll("_", "-")
  const names = commandGroups().flatMap(({ commands }) => commands.map(([name]) => name))
  // `pause` is short for pause-instances.
  const begun = names.find((name) => name.startsWith(asked))
  if (asked.length > 2 && begun !== undefined) return begun
  const nearest = names.toSorted((a, b) => distance(asked, a) - distance(asked, b))[0] ?? ""
  return distance(asked, nearest) <= Math.max(2, nearest.length / 3) ? nearest : undefined
}
