import { execFileSync } from "node:child_process"
import { accessSync, constants, statSync } from "node:fs"
import { userInfo } from "node:os"
import { delimiter, join } from "node:path"
import { Fault } from "./core/faults.ts"

/** Where the real claude is. */

/** A login shell that waits for somebody is not waited for longer. */
const loginShellMs = 5000

export const executable = (path: string): boolean => {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}
const firstIn = (path: string): string | undefined =>
  path
    .split(delimiter)
    .filter((entry) => entry.startsWith("/"))
    .map((entry) => join(entry, "claude"))
    .find(executable)

let loginPath: string | undefined
/** PATH as the login shell sets it up, asked once: what a desktop app starts has no Homebrew on its PATH. Empty when it cannot be had. */
function askLoginShell(): string {
  if (loginPath !== undefined) return loginPath
  loginPath = ""
  try {
    const { shell } = userInfo()
    if (shell) {
      // What a profile prints comes before; the last line is ours.
      const script = `printf '\\n%s' "$PATH"`
      const said = execFileSync(shell, ["-lc", script], {
        encoding: "utf8",
        timeout: loginShellMs,
        maxBuffer: 1_048_576,
        stdio: ["ignore", "pipe", "ignore"],
      })
      loginPath = said.slice(said.lastIndexOf("\n") + 1)
    }
  } catch {
    // No such user, no such shell, or one that lets nobody in.
  }
  return loginPath
}

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
  const found = firstIn(process.env.PATH ?? "") ?? firstIn(askLoginShell())
  if (found !== undefined) return found
  throw new Fault(
    "Unavailable",
    "The program `claude` is not on the PATH, so no loop could work.",
    "Install it (npm install -g @anthropic-ai/claude-code), or write its path as `claude` into the policy file; then try again.",
  )
}
