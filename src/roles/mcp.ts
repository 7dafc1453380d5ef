import { setFlagsFromString } from "node:v8"
import { toolsets } from "../core/tool.ts"
import { instructionsFor } from "../mcp/about.ts"
import { readBuiltTools } from "../mcp/built-tools.ts"
import { speak } from "../mcp/stdio.ts"
import { instanceHere, readOffer } from "../settings/config.ts"
import { helpFlag, parseArguments, showUsage, usageError } from "./parse-args.ts"

const usage = `usage: blackbox5 mcp [--read-only] [--toolsets A,B]

Speaks MCP on stdin and stdout; clients run it.
  --read-only     offer only the tools that change nothing
  --toolsets A,B  offer only these sets of tools: ${toolsets.join(", ")}
`
const options = {
  ...helpFlag,
  "read-only": { type: "boolean" },
  toolsets: { type: "string" },
} as const

/**
 * One such process stands beside every client and every iteration, and does little: its young
 * objects need 1 MiB, not the 16 that V8 gives them. Measured: 3 MiB less of each process.
 */
function keepSmall(): void {
  for (const flag of ["--max-semi-space-size=1", "--semi-space-growth-factor=1"])
    setFlagsFromString(flag)
}

/** MCP over stdio. Loads nothing of weight before `initialize` is answered. */
export async function mcp(argv: readonly string[]): Promise<number> {
  keepSmall()
  const words = parseArguments(argv, options)
  if (typeof words === "string") return usageError(words, usage)
  const { values, positionals } = words
  if (values.help) return showUsage(usage)
  if (positionals.length > 0)
    return usageError(`mcp takes no ${JSON.stringify(positionals[0])}.`, usage)
  const { "read-only": readOnly, toolsets: only } = values
  const offer = readOffer({ readOnly, toolsets: only })
  const ended = new AbortController()
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const)
    process.once(signal, () => ended.abort())
  // Nobody reads any more: the client is gone.
  process.stdout.on("error", () => ended.abort())
  const agent = instanceHere()
  const instructions = instructionsFor(agent)
  await speak({
    input: process.stdin,
    output: process.stdout,
    signal: ended.signal,
    instructions,
    listTools: () => readBuiltTools(offer),
    // Every iteration has such a process, and many call nothing; a person's first call may have to
    // start serve.
    warm: agent === undefined,
    load: async (line) =>
      (await import("../mcp/session.ts")).openSession(line, { offer, instructions }),
  })
  // A start of serve in the background would keep the process; it goes on by itself.
  process.exit(0)
}
