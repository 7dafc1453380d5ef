import { type ParseArgsConfig, type ParseArgsOptionsConfig, parseArgs } from "node:util"

/** Flags and words of a command line; or what is wrong with it, in parseArgs' own words. */
export function wordsOf<const T extends ParseArgsOptionsConfig>(argv: readonly string[], options: T) {
  try {
    return parseArgs({ args: [...argv], allowPositionals: true, options } satisfies ParseArgsConfig)
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}
