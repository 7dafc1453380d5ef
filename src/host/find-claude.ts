import { existsSync } from "node:fs"
import { Fault } from "../core/faults.ts"
import { oneLine } from "../core/view.ts"
import { executable, programsNamed, searchedDirectories } from "./find-program.ts"

/** What is told of a PATH. */
const pathCharactersMax = 600

const searchedPath = (): string => oneLine(searchedDirectories().join(":"), pathCharactersMax)

/** Where claude is; or, in a sentence, where it was looked for. */
export type ClaudeSearch = { readonly path: string } | { readonly missing: string }

/**
 * Looks for the real claude, which may come and go: its updates replace it. `named`: the policy's,
 * which alone counts then. `known`: where it was; without it, or when it is gone, the first on
 * PATH, or on the login shell's PATH.
 */
export function searchClaude({
  named,
  known,
}: {
  named?: string | undefined
  known?: string | undefined
}): ClaudeSearch {
  const first = named ?? known
  if (first !== undefined && executable(first)) return { path: first }
  if (named !== undefined)
    return { missing: `The policy names claude at ${named}, which is not an executable file.` }
  const found = programsNamed("claude").next().value
  if (found !== undefined) return { path: found }
  if (known !== undefined && existsSync(known))
    return {
      missing: `${known} is not executable, and no other \`claude\` is on the PATH: ${searchedPath()}.`,
    }
  return { missing: `The program \`claude\` is not on the PATH: ${searchedPath()}.` }
}

/** The real claude, an absolute path. @throws Unavailable when there is none. */
export function findClaude(named: string | undefined): string {
  const found = searchClaude({ named })
  if ("path" in found) return found.path
  throw new Fault(
    "Unavailable",
    `${found.missing} No loop could work.`,
    named === undefined
      ? "Install it (npm install -g @anthropic-ai/claude-code), or write its path as `claude` into the policy file; then try again."
      : "Correct `claude` in the policy file.",
  )
}
