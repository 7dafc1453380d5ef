import { runTurn } from "../agent/claude-shim.ts"
import { instanceHere } from "../settings/config.ts"

const usage = `usage: blackbox5 turn [claude's arguments]

Waits for a turn, then runs claude. It is what a loop finds as \`claude\`; people do not need to run it.
`

/** `blackbox5 turn ...`: inside an instance every word is claude's, --help too. */
export async function turn(argv: readonly string[]): Promise<number> {
  if (instanceHere() !== undefined || !argv.some((word) => word === "--help" || word === "-h"))
    return runTurn(argv)
  // Not loaded otherwise: it imports node:util, which opens stderr, and would make the loop's
  // output non-blocking for all who share it.
  return (await import("./parse-args.ts")).showUsage(usage)
}
