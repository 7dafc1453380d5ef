import { runLoop } from "../agent/loop.ts"
import { helpFlag, parseArguments, showUsage, usageError } from "./parse-args.ts"

const usage = `usage: blackbox5 loop <project directory>

Runs the built-in loop, for projects without a loop script of their own. An agent starts it; people do not need to.
`

/** `blackbox5 loop <project directory>`. Exit code 2: called wrongly. */
export async function loop(argv: readonly string[]): Promise<number> {
  const words = parseArguments(argv, helpFlag)
  if (typeof words === "string") return usageError(words, usage)
  if (words.values.help) return showUsage(usage)
  const [directory, ...rest] = words.positionals
  if (directory === undefined || rest.length > 0)
    return usageError("Give one project directory.", usage)
  return runLoop(directory)
}
