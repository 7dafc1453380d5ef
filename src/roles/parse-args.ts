import { type ParseArgsConfig, type ParseArgsOptionsConfig, parseArgs } from "node:util"
import { clean } from "../core/view.ts"

/** The flags and positional arguments of a command line, or parseArgs' error message. */
export function parseArguments<const T extends ParseArgsOptionsConfig>(
  argv: readonly string[],
  options: T,
) {
  try {
    return parseArgs({ args: [...argv], allowPositionals: true, options } satisfies ParseArgsConfig)
  } catch (error) {
    return argumentMistake(error)
  }
}

/** Without Node's advice on positional arguments that begin with a dash, which we do not have. */
export const argumentMistake = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).replace(/\. To specify .*$/s, ".")

/** `-h`, `--help`: an option of every role. */
export const helpFlag = { help: { type: "boolean", short: "h", default: false } } as const

export function showUsage(usage: string): 0 {
  process.stdout.write(usage)
  return 0
}

/** Exit code 2. */
export function usageError(message: string, usage: string): 2 {
  process.stderr.write(`error: ${clean(message)}\n${usage}`)
  return 2
}
