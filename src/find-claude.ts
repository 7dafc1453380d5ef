import { Fault } from "./core/faults.ts"
import { executable, programsNamed } from "./find-program.ts"

/** The real claude, an absolute path: the policy's, or the first on PATH, or on the login shell's PATH. @throws Unavailable when there is none. */
export function findClaude(named: string | undefined): string {
  if (named !== undefined) {
    if (executable(named)) return named
    throw new Fault(
      "Unavailable",
      `The policy names claude at ${named}, which is not an executable file.`,
      "Correct `claude` in the policy file.",
    )
  }
  const found = programsNamed("claude").next().value
  if (found !== undefined) return found
  throw new Fault(
    "Unavailable",
    "The program `claude` is not on the PATH, so no loop could work.",
    "Install it (npm install -g @anthropic-ai/claude-code), or write its path as `claude` into the policy file; then try again.",
  )
}
