import { runTurn } from "../agent/claude-shim.ts"
import { instanceHere } from "../settings/config.ts"

const usage = `usage: blackbox5 turn [claude's arguments]

Waits for a turn, then runs claude. Loops find it as \`claude\`; you do not need to run it.
`

/** `blackbox5 turn ...`: inside an instance every argument is for claude, even --help. */
export async function turn(argv: readonly string[]): Promise<number> {
  if (instanceHere() !== undefined || !argv.some((word) => word === "--help" || word === "-h"))
    return runTurn(argv)
  // Loaded only here: it imports node:util, which opens stderr and makes the loop's output
  // non-blocking for every process that shares it.
  return (await import("./parse-args.ts")).showUsage(usage)
}
