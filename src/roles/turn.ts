import { runTurn } from "../agent/turnstile.ts"
import { instanceHere } from "../config.ts"
import { showUsage } from "./words.ts"

const usage = `usage: blackbox5 turn [claude's arguments]

Waits for a turn, then runs claude. It is what a loop finds as \`claude\`; people do not need to run it.
`

/** `blackbox5 turn ...`: inside an instance every word is claude's, --help too. */
export const turn = async (argv: readonly string[]): Promise<number> =>
  instanceHere() === undefined && argv.some((word) => word === "--help" || word === "-h") ? showUsage(usage) : runTurn(argv)
