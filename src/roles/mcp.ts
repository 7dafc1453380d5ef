import { instanceHere } from "../config.ts"
import { instructionsFor } from "../mcp/about.ts"
import { speak } from "../mcp/stdio.ts"

const usage =
  "usage: blackbox5 mcp [--read-only]   (speaks MCP on stdin and stdout; --read-only offers only tools that change nothing)\n"

/** MCP over stdio. Loads nothing of weight before `initialize` is answered. */
export async function mcp(argv: readonly string[]): Promise<number> {
  const strange = argv.find((word) => word !== "--read-only")
  if (strange !== undefined) {
    process.stderr.write(strange === "--help" ? usage : `error: mcp does not know ${strange}\n${usage}`)
    return strange === "--help" ? 0 : 2
  }
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
    load: async (line) =>
      (await import("../mcp/session.ts")).openSession(line, { readOnly: argv.includes("--read-only"), instructions }),
  })
  // A start of serve in the background would keep the process; it goes on by itself.
  process.exit(0)
}
