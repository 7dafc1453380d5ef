import { parseArgs } from "node:util"
import { instanceHere, readOffer } from "../config.ts"
import { instructionsFor } from "../mcp/about.ts"
import { speak } from "../mcp/stdio.ts"

const usage =
  "usage: blackbox5 mcp [--read-only] [--toolsets A,B]   (speaks MCP on stdin and stdout; --read-only offers only tools that change nothing)\n"

const optionsOf = (argv: readonly string[]): { readOnly?: boolean; toolsets?: string; help?: boolean } => {
  const { values } = parseArgs({
    args: [...argv],
    options: { "read-only": { type: "boolean" }, toolsets: { type: "string" }, help: { type: "boolean" } },
  })
  const { "read-only": readOnly, ...others } = values
  return { ...others, ...(readOnly !== undefined && { readOnly }) }
}

/** MCP over stdio. Loads nothing of weight before `initialize` is answered. */
export async function mcp(argv: readonly string[]): Promise<number> {
  let options: ReturnType<typeof optionsOf>
  try {
    options = optionsOf(argv)
  } catch (error) {
    process.stderr.write(`error: ${error instanceof Error ? error.message : error}\n${usage}`)
    return 2
  }
  if (options.help) {
    process.stderr.write(usage)
    return 0
  }
  const offer = readOffer(options)
  const ended = new AbortController()
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.once(signal, () => ended.abort())
  // Nobody reads any more: the client is gone.
  process.stdout.on("error", () => ended.abort())
  const instructions = instructionsFor(instanceHere())
  await speak({
    input: process.stdin,
    output: process.stdout,
    signal: ended.signal,
    instructions,
    load: async (line) => (await import("../mcp/session.ts")).openSession(line, { offer, instructions }),
  })
  // A start of serve in the background would keep the process; it goes on by itself.
  process.exit(0)
}
