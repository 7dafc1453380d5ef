import { runLoop } from "../agent/loop.ts"
import { helpFlag, parseArguments, showUsage, usageError } from "./parse-args.ts"

const usage = `usage: blackbox5 loop <project directory>

Runs the built-in loop, for projects without a loop script of their own. Agents start it; you do not need to.
`

/** `blackbox5 loop <project directory>`. Exit code 2: a usage error. */
export async function loop(argv: readonly string[]): Promise<number> {
  const parsed = parseArguments(argv, helpFlag)
  if (typeof parsed === "string") return usageError(parsed, usage)
  if (parsed.values.help) return showUsage(usage)
  const [directory, ...rest] = parsed.positionals
  if (directory === undefined || rest.length > 0)
    return usageError("Give one project directory.", usage)
  return runLoop(directory)
}
