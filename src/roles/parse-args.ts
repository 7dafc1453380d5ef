import { type ParseArgsConfig, type ParseArgsOptionsConfig, parseArgs } from "node:util"
import { clean } from "../core/view.ts"

/** Flags and words of a command line; or what is wrong with it, in parseArgs' own words. */
export function parseArguments<const T extends ParseArgsOptionsConfig>(
  argv: readonly string[],
  options: T,
) {
  try {
    return parseArgs({ args: [...argv], allowPositionals: true, options } satisfies ParseArgsConfig)
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

/** `-h`, `--help`, in the options of every role. */
export const helpFlag = { help: { type: "boolean", short: "h", default: false } } as const

export function showUsage(usage: string): 0 {
  process.stdout.write(usage)
  return 0
}

/** A mistake in how a role was called: exit code 2. */
export function usageError(message: string, usage: string): 2 {
  process.stderr.write(`error: ${clean(message)}\n${usage}`)
  return 2
}
